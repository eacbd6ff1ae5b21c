package record

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// illnesses joins what is wrong in several places into AlarmStore, which is
// cleared when the last of them is well again.
type illnesses struct {
	alarms Alarms
	mu     sync.Mutex
	ill    map[string]error
}

// report says that place failed, or with nil that it works.
func (i *illnesses) report(place string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, was := i.ill[place]
	switch {
	case err == nil && was:
		delete(i.ill, place)
		if len(i.ill) == 0 {
			i.alarms.Clear(AlarmStore, "records are written again")
		}
	case err != nil && !was:
		if i.ill == nil {
			i.ill = map[string]error{}
		}
		i.ill[place] = err
		i.alarms.Alarm(AlarmStore, i.detail())
	}
}

func (i *illnesses) detail() string {
	var text string
	for _, place := range slices.SortedFunc(maps.Keys(i.ill), cmp.Compare) {
		text += i.ill[place].Error() + "; "
	}
	return text + "records wait, then are lost, and mail goes on: make room, or mend the disk"
}

func (i *illnesses) has(place string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ill[place] != nil
}

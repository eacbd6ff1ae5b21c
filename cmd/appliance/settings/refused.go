package settings

import (
	"fmt"
	"sync/atomic"

	"mailweir/firewall/guard"
)

// AlarmRefused is the alarm of a file that a reload refused: what runs is no
// longer what the file says, until it is mended.
const AlarmRefused = "reload_refused"

// Refused is its text.
func Refused(err error) string {
	return fmt.Sprintf("the configuration file was not taken at the last reload, and what was in force before goes on: mend it and `weir reload`: %v", err)
}

// Refusal remembers whether the last reload of guard was refused.
type Refusal struct{ text atomic.Pointer[string] }

// Note takes in what came of a reload.
func (r *Refusal) Note(err error) {
	if err == nil {
		r.text.Store(nil)
		return
	}
	r.text.Store(new(Refused(err)))
}

// Alarms is the alarm while the refusal stands.
func (r *Refusal) Alarms() []guard.Alarm {
	if text := r.text.Load(); text != nil {
		return []guard.Alarm{{Name: AlarmRefused, Text: *text}}
	}
	return nil
}

package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"mailweir/control"
	"mailweir/disk"
	"mailweir/firewall"
)

// maxAllow is how many allow entries there may be: the engines keep them in
// tables of fixed size, with some room for what guard protects by itself.
const maxAllow = 2048

// allowList is who is always let in. It is kept in one file, which is replaced
// whole: a crash leaves the list of before or of after.
type allowList struct {
	path string
	now  func() time.Time

	mu      sync.Mutex
	entries []AllowEntry // in order of prefixes
}

// openAllowList reads the list. One that cannot be read is moved aside, with an
// alarm: bans of all the others are worth more than a guard that does not start.
func openAllowList(path string, now func() time.Time) (a *allowList, alarm string) {
	a = &allowList{path: path, now: now}
	err := readJSON(path, &a.entries)
	if err == nil {
		return a, ""
	}
	a.entries = nil
	aside := fmt.Sprintf("%s.damaged-%d", path, now().Unix())
	err = errors.Join(err, os.Rename(path, aside))
	return a, fmt.Sprintf("the allow list cannot be read, nobody is on it (%v): it was moved to %s, allow again who has to be", err, aside)
}

// list is every entry that holds now.
func (a *allowList) list() []AllowEntry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.entries), a.over)
}

func (a *allowList) over(e AllowEntry) bool { return !e.Until.IsZero() && !e.Until.After(a.now()) }

// add puts an entry in, in place of the one of the same prefix.
func (a *allowList) add(e AllowEntry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(a.entries), func(old AllowEntry) bool {
		return old.Prefix == e.Prefix || a.over(old)
	})
	if len(next) >= maxAllow {
		return control.Refusef("the allow list is full with %d entries: remove some, or allow wider prefixes", maxAllow)
	}
	next = append(next, e)
	slices.SortFunc(next, func(a, b AllowEntry) int { return a.Prefix.Compare(b.Prefix) })
	return a.replace(next)
}

// exactly is the entry of just p.
func (a *allowList) exactly(p netip.Prefix) (AllowEntry, bool) {
	for _, e := range a.list() {
		if e.Prefix == p {
			return e, true
		}
	}
	return AllowEntry{}, false
}

func (a *allowList) remove(p netip.Prefix) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(a.entries), func(e AllowEntry) bool { return e.Prefix == p })
	if len(next) == len(a.entries) {
		return control.Refusef("%v is not on the allow list: see `weir lists`", p)
	}
	return a.replace(next)
}

// expire drops the entries that are over, and says whether there were any.
func (a *allowList) expire() (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.ContainsFunc(a.entries, a.over) {
		return false, nil
	}
	next := slices.DeleteFunc(slices.Clone(a.entries), a.over)
	err := a.replace(next)
	a.entries = next // over they are, whatever the disk says
	return true, err
}

func (a *allowList) replace(next []AllowEntry) error {
	if err := writeJSON(a.path, next); err != nil {
		return fmt.Errorf("keep the allow list: %w (nothing was changed)", err)
	}
	a.entries = next
	return nil
}

// covering is every entry that lets p in.
func covering(list []AllowEntry, p netip.Prefix) []AllowEntry {
	return slices.DeleteFunc(list, func(e AllowEntry) bool {
		return e.Prefix.Bits() > p.Bits() || !e.Prefix.Contains(p.Addr())
	})
}

func canonicalOrUsage(p netip.Prefix) (netip.Prefix, error) {
	c := firewall.Canonical(p)
	if !c.IsValid() {
		return c, control.Usagef("%v is no address or prefix: write 203.0.113.7 or 2001:db8::/64", p)
	}
	return c, nil
}

// readJSON reads what writeJSON wrote; where there is nothing, v stays.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file in one step, and returns when it is on the disk.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return disk.Replace(path, 0o600, func(f io.Writer) error {
		_, err := f.Write(append(b, '\n'))
		return err
	})
}

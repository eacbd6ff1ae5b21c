package mailrole

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/disk"
)

// maintenance is the operator's switch by which everyone hears 421 4.3.2 for a
// while (R-BW-E16). It outlives a restart, which is what it is often for, and
// ends by itself.
type maintenance struct {
	path string
	now  func() time.Time
	cur  atomic.Pointer[mailapi.Shut]
}

// openMaintenance reads how the door stood. What cannot be read leaves it open.
func openMaintenance(path string, now func() time.Time) (*maintenance, error) {
	m := &maintenance{path: path, now: now}
	var s mailapi.Shut
	err := disk.Restore(path, func(f io.Reader) error { return json.NewDecoder(f).Decode(&s) })
	if err != nil {
		s, err = mailapi.Shut{}, fmt.Errorf("the door is open, how it stood is forgotten: %w", err)
	}
	m.cur.Store(&s)
	return m, err
}

// set opens the door (the zero shut) or closes it.
func (m *maintenance) set(s mailapi.Shut) error {
	if !s.Until.IsZero() {
		s.Since = m.now()
	}
	if err := disk.Replace(m.path, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(s) }); err != nil {
		return fmt.Errorf("keep whether the door is closed: %w (nothing was changed)", err)
	}
	m.cur.Store(&s)
	return nil
}

// closed is how the door is, if it is closed now.
func (m *maintenance) closed() (mailapi.Shut, bool) {
	s := *m.cur.Load()
	return s, s.Until.After(m.now())
}

// text is what clients are told; "" while the door is open.
func (m *maintenance) text() string {
	s, closed := m.closed()
	if !closed {
		return ""
	}
	return strings.TrimPrefix(s.Text+", until ", ", ") + s.Until.UTC().Format("15:04 MST on 2 January")
}

// alarm stands as long as nobody gets in.
func (m *maintenance) alarm() string {
	s, closed := m.closed()
	if !closed {
		return ""
	}
	return fmt.Sprintf("the door is closed for maintenance since %s by %s, until %s: weir maintenance off opens it",
		s.Since.Local().Format(time.DateTime), s.Author, s.Until.Local().Format(time.DateTime))
}

package mailrole

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/cmd/appliance/mailapi"
)

// R-BW-E16: the door opens by itself, and how it stands outlives a restart.
func TestTheDoorOpensByItself(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "maintenance.json")
	open := func() *maintenance {
		m, err := openMaintenance(path, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	if m.text() != "" || m.alarm() != "" {
		t.Errorf("it begins closed: %q", m.text())
	}
	if err := m.set(mailapi.Shut{Until: now.Add(time.Hour), Text: "new disk", Author: "root"}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*maintenance{m, open()} {
		if got := m.text(); got != "new disk, until 09:00 UTC on 22 November" || !strings.Contains(m.alarm(), "by root") {
			t.Errorf("%q, %q", got, m.alarm())
		}
	}
	now = now.Add(time.Hour)
	if m.text() != "" || m.alarm() != "" {
		t.Errorf("it does not open: %q", m.text())
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := openMaintenance(path, time.Now); err == nil || m.text() != "" {
		t.Errorf("a damaged file: %v, %q", err, m.text())
	}
}

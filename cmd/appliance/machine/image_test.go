package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
)

const (
	before = "hostname = \"mx1.example.net\"\n[backend.b]\nurl = \"smtp://192.0.2.10\"\n[domain.\"example.com\"]\nbackends = [\"b\"]\n" +
		"[system.interfaces]\neth0 = [\"192.0.2.25/24\"]\n"
	after = before + "eth1 = [\"10.0.0.2/24\"]\n"
)

// machineOf is an image in a folder, with a confirmed configuration in force.
// What it runs is noted; a command that begins with refuse fails.
type machineOf struct {
	*Image
	t      *testing.T
	ran    []string
	refuse string
}

func newMachine(t *testing.T) *machineOf {
	t.Helper()
	root := t.TempDir()
	m := &machineOf{t: t, refuse: "nothing"}
	m.Image = &Image{root: root, config: filepath.Join(root, "weir.toml"), dir: filepath.Join(root, "system"), now: time.Now,
		run: func(_ context.Context, command ...string) error {
			line := strings.Join(command, " ")
			m.ran = append(m.ran, line)
			if strings.HasPrefix(line, m.refuse) {
				return errors.New(line + " does not work")
			}
			return nil
		}}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.put(before)
	if err := errors.Join(m.write(t.Context(), m.read()), m.remember()); err != nil {
		t.Fatal(err)
	}
	m.ran = nil
	return m
}

func (m *machineOf) put(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.config, []byte(text), 0o640); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machineOf) read() config.Config {
	m.t.Helper()
	_, cfg, problems, err := config.Read(m.config)
	if err != nil || problems.Bad() {
		m.t.Fatal(err, problems)
	}
	return cfg
}

// holds says whether the system and the file are those of before or after.
func (m *machineOf) holds(text string) {
	m.t.Helper()
	_, err := os.Stat(filepath.Join(m.root, "run/systemd/network/50-eth1.network"))
	if now, _ := os.ReadFile(m.config); string(now) != text || (err == nil) != (text == after) {
		m.t.Errorf("the file says %q, and eth1: %v", now, err)
	}
}

func (m *machineOf) didRun(want string) {
	m.t.Helper()
	if !strings.Contains(strings.Join(m.ran, "\n"), want) {
		m.t.Errorf("%q was not run, but %q", want, m.ran)
	}
}

func (m *machineOf) applyAfter() error {
	m.put(after)
	return m.Apply(m.t.Context(), m.read(), 2*time.Minute)
}

// R-MC-06: a change of [system] is taken back, with the whole file, unless it is
// confirmed; the way back is armed before anything changes.
func TestSystemApplyAndUndo(t *testing.T) {
	m := newMachine(t)
	if err := m.applyAfter(); err != nil {
		t.Fatal(err)
	}
	m.holds(after)
	if len(m.ran) != 2 || !strings.HasPrefix(m.ran[0], "systemd-run --quiet --unit=weir-system-undo --on-active=120 ") || m.ran[1] != "networkctl reload" {
		t.Errorf("it ran %q", m.ran)
	}
	if err := m.applyAfter(); err == nil || !strings.Contains(err.Error(), "not confirmed yet") {
		t.Errorf("a second change over one that waits: %v", err)
	}
	if undone, err := m.Undo(t.Context()); !undone || err != nil {
		t.Fatal(undone, err)
	}
	m.holds(before)
	if kept, _ := os.ReadFile(m.config + ".undone"); string(kept) != after {
		t.Errorf("what was taken back is kept as %q", kept)
	}
	if undone, err := m.Undo(t.Context()); undone || err != nil {
		t.Errorf("once more: %v, %v", undone, err)
	}
	if err := m.Confirm(t.Context()); err == nil || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("confirmed too late: %v", err)
	}
}

func TestSystemConfirm(t *testing.T) {
	m := newMachine(t)
	if err := errors.Join(m.applyAfter(), m.Confirm(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.didRun("systemctl stop weir-system-undo.timer")
	if undone, err := m.Undo(t.Context()); undone || err != nil {
		t.Errorf("what was confirmed is taken back: %v, %v", undone, err)
	}
	m.holds(after)
}

// What does not work is taken back at once, and nothing changes where the way
// back cannot be armed.
func TestSystemApplyThatFails(t *testing.T) {
	m := newMachine(t)
	m.refuse = "networkctl reload"
	if err := m.applyAfter(); err == nil || !strings.Contains(err.Error(), "does not work") {
		t.Errorf("the network did not take it: %v", err)
	}
	m.holds(before)
	m = newMachine(t)
	m.refuse = "systemd-run"
	if err := m.applyAfter(); err == nil {
		t.Error("without a way back it is put in force")
	}
	if _, err := os.Stat(filepath.Join(m.root, "run/systemd/network/50-eth1.network")); err == nil || settings.Exists(m.path(pendingFile)) {
		t.Error("without a way back something was changed")
	}
}

// At boot the machine has the addresses of the file, of the last good one, or
// what is understood of the file, in this order, and says which.
func TestBootConfig(t *testing.T) {
	m := newMachine(t)
	bad := strings.Replace(after, "[backend.b]", "[backend.b]\nx = 1", 1)
	for _, c := range []struct {
		name, text, applied, alarm string
		interfaces                 int
	}{
		{"good", after, before, "", 2},
		{"bad, and a good one before", bad, before, "those of the last good one", 1},
		{"bad from the first", bad, "", "mail runs by the rest of it", 2},
		{"names a file that is not there", "tls.certificates = [{ cert = \"/no\", key = \"/no\" }]\n" + after, before, "/no cannot be used", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.put(c.text)
			if err := os.WriteFile(m.path(appliedFile), []byte(c.applied), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, alarm, err := m.bootConfig()
			if err != nil || len(cfg.System.Interfaces) != c.interfaces || !strings.Contains(alarm, c.alarm) || alarm == "" != (c.alarm == "") {
				t.Errorf("%d interfaces, alarm %q, %v", len(cfg.System.Interfaces), alarm, err)
			}
		})
	}
}

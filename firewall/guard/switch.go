package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// switched is the note in state_dir that the operator took the firewall out
// of the kernel. It holds until he puts it back, whoever starts in between.
type switched struct {
	Off  bool      `json:"off"`
	Time time.Time `json:"time"`
}

func switchPath(stateDir string) string { return filepath.Join(stateDir, folder, "switch.json") }

// SwitchOff notes that guard shall leave the kernel alone when it starts next.
// It is for `weir firewall off` while guard is not running; the caller takes
// the engines out of the kernel itself. A running guard is asked by
// Operator.Switch.
func SwitchOff(stateDir string, now time.Time) error {
	if err := makeFolder(stateDir, 0o700); err != nil {
		return err
	}
	return keepSwitch(stateDir, switched{Off: true, Time: now})
}

// SwitchOn takes that note back.
func SwitchOn(stateDir string) error { return keepSwitch(stateDir, switched{}) }

func keepSwitch(stateDir string, s switched) error {
	path := switchPath(stateDir)
	var err error
	if s.Off {
		err = writeJSON(path, s)
	} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("note that the firewall is off or on: %w", err)
	}
	return nil
}

// readSwitch takes a note that cannot be read for off: it would not be there,
// had nobody switched the firewall off.
func readSwitch(stateDir string) (s switched) {
	if err := readJSON(switchPath(stateDir), &s); err != nil {
		s.Off = true
	}
	return s
}

// heed takes note of weir firewall off that was given while we did not answer,
// and was carried out without us. A note that cannot be read says nothing now:
// that may be us, without a descriptor left.
func (s *Server) heed() {
	var note switched
	if s.off.Load() || readJSON(switchPath(s.cfg.StateDir), &note) != nil || !note.Off {
		return
	}
	if !s.verbs.TryLock() {
		return // it may be weir firewall on
	}
	defer s.verbs.Unlock()
	if err := readJSON(switchPath(s.cfg.StateDir), &note); err != nil || !note.Off || note.Time.Equal(s.overruled) {
		return
	}
	s.off.Store(true)
	s.engines.want(s.enforcing())
	s.cfg.Log.Warn("the firewall was switched off while guard did not answer, and stays off")
}

// makeFolder makes guard's folder below dir, and dir.
func makeFolder(dir string, mode os.FileMode) error {
	path := filepath.Join(dir, folder)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make guard's folder: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("set mode of guard's folder: %w", err)
	}
	return nil
}

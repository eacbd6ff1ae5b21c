package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mailweir/config"
	"mailweir/control"
)

// lastGoodPath is where the last configuration that was good is kept, for a
// start with a bad one.
func lastGoodPath(stateDir string) string { return filepath.Join(stateDir, "last-good.toml") }

// started is the configuration that a start found.
type started struct {
	text   []byte
	config config.Config
	alarms []string // each ends with what to do
}

// startConfig is the configuration to start with, and what the operator has to
// hear about it. A bad file does not stop mail: the last good one runs.
func startConfig(file string) (config.Config, []string, error) {
	s, err := findConfig(file)
	return s.config, s.alarms, err
}

func findConfig(file string) (started, error) {
	f, cfg, problems, err := config.Read(file)
	if err != nil {
		return started{}, err
	}
	bad := problems.Err()
	if bad == nil {
		return started{text: f.Text, config: cfg}, nil
	}
	last := lastGoodPath(cfg.StateDir) // of the bad file as far as it was read
	text, err := os.ReadFile(last)
	if err != nil {
		return started{}, fmt.Errorf("%w\nthe file is bad, and there is no last good one to start with: mend it", bad)
	}
	_, cfg, problems = config.Parse(last, text)
	if problems.Bad() {
		return started{}, fmt.Errorf("%w\nthe file is bad, and so is the last good one in %s: mend the file", bad, last)
	}
	alarm := fmt.Sprintf("%s is bad, so the last good configuration runs: weir check shows the errors; mend them, then run weir reload", file)
	return started{text: text, config: cfg, alarms: []string{alarm}}, nil
}

// checkedConfig is the file as it is now; any error of it is returned. It is
// what a reload takes.
func checkedConfig(file string) (config.Config, error) {
	_, cfg, problems, err := config.Read(file)
	if err == nil {
		err = problems.Err()
	}
	return cfg, err
}

// keepLastGood remembers a text that was put in force. The roles' user may read
// it: mail too starts with it.
func keepLastGood(stateDir string, text []byte, group uint32) error {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	return writeForGroup(lastGoodPath(stateDir), text, group)
}

// writeForGroup writes a file of ours that only the group may read besides: it
// may hold keys of DNS block lists.
func writeForGroup(path string, text []byte, group uint32) error {
	if err := config.WriteFile(path, text, 0o640, nil); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if err := os.Chown(path, 0, int(group)); err != nil {
		return fmt.Errorf("let the mail role read %s: %w", path, err)
	}
	return nil
}

// refuseBad is the errors of a file as an answer to a command.
func refuseBad(problems config.Problems) error {
	bad, ok := problems.Err().(config.Problems)
	if !ok {
		return nil
	}
	e := control.Refusef("the file is bad, nothing was changed:")
	for _, p := range bad {
		e.Lines = append(e.Lines, p.String())
	}
	return e
}

// useRunDir takes run_dir of the file where the command line and the
// environment name none.
func (c *cli) useRunDir(cfg config.Config) {
	if !c.runDirGiven {
		c.runDir = cfg.RunDir
	}
}

// exists says whether there is something at path; a path that cannot be looked
// at counts as there, so that nothing is written over it.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Package settings is the configuration file on its way from the disk to those
// who obey it: read and checked on this machine, the first one and the last good
// one, and what it says in the words of each part of the program.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailweir/config"
)

// DefaultPath is the configuration file where no other is named.
const DefaultPath = "/etc/mailweir/weir.toml"

// Read reads the file and adds what only this machine can tell: whether
// users, certificates and files of recipients are there and may be read.
func Read(path string) (config.Config, config.Problems, error) {
	f, cfg, problems, err := config.Read(path)
	if err != nil {
		return cfg, nil, ExplainRead(path, err)
	}
	if !problems.Bad() {
		problems = append(problems, Problems(f, cfg)...)
		problems.Sort()
	}
	return cfg, problems, nil
}

func ExplainRead(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no configuration file %s: name another with -c, or run `weir run` once without -c to have a first one written to %s", path, DefaultPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("may not read %s: the mail role reads it as its own user, so `chgrp weir-mail %[1]s && chmod 640 %[1]s`", path)
	}
	return err
}

// Checked is Read for those who can only use a good file.
func Checked(path string) (config.Config, error) {
	cfg, problems, err := Read(path)
	if err == nil {
		err = problems.Err()
	}
	return cfg, err
}

// Kept is the last good configuration, in a role's folder.
const Kept = "weir.toml.good"

// KeptLoss is what is lost with it.
const KeptLoss = "had the configuration file been bad too, nothing would have started; the file that is good now is kept in its place"

// startConfig is the configuration to start a role with: the file, or where
// that is bad the last one that was good, with an alarm; on the image, where
// nobody may be at hand, at the last what is understood. Each role keeps its
// own in its own folder of state_dir. Whoever is root yet, such as a mail role
// that has still to become its user, keeps it with guard: what lies in the mail
// role's folder, one who took that role over may have written, and as root it
// would say which user to become and which folders to give away.
func startConfig(path, role string) (cfg config.Config, alarms []string, err error) {
	if os.Geteuid() == 0 {
		role = "guard"
	}
	cfg, problems, err := Read(path)
	kept := filepath.Join(cfg.StateDir, role, Kept)
	if err == nil && !problems.Bad() {
		Keep(path, kept)
		return cfg, nil, nil
	}
	if err == nil {
		err = problems.Err()
	}
	last, lastProblems, keptErr := Read(kept)
	switch bad := keptErr != nil || lastProblems.Bad(); {
	case bad && OnImage("/"):
		cfg, alarm := Understood(path)
		return cfg, []string{alarm}, nil
	case bad:
		return cfg, nil, err
	}
	return last, []string{fmt.Sprintf("the configuration file is bad, the last good one runs: mend it and `weir reload`: %v", err)}, nil
}

// Keep remembers a good file. It is no error when that goes wrong: the
// role works, and only a bad file at a later start would miss it. What was kept
// before and is good for nothing is set aside, for somebody to look at.
func Keep(path, kept string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	switch old, err := os.ReadFile(kept); {
	case err == nil && string(old) == string(text):
		return
	case err == nil && !sound(kept):
		os.Rename(kept, kept+SetAside)
	}
	folder := filepath.Dir(kept)
	if os.MkdirAll(filepath.Dir(folder), 0o755) != nil { // the other roles go through it
		return
	}
	if err := os.Mkdir(folder, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
		config.WriteFile(kept, text, 0o600, nil)
	}
}

// sound says whether a configuration file can be read; that it names what this
// machine no longer has does not count.
func sound(path string) bool {
	_, _, problems, err := config.Read(path)
	return err == nil && !problems.Bad()
}

// Exists says whether there is something at path; what cannot be looked at
// counts as there, so that nothing is written over it.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// OnImage says whether this machine is one. Elsewhere [system] is not ours to
// put in force.
func OnImage(root string) bool {
	b, err := os.ReadFile(filepath.Join(root, "usr/lib/os-release"))
	return err == nil && strings.Contains("\n"+string(b), "\nIMAGE_ID=mailweir\n")
}

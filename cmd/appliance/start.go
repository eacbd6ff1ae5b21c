package main

import (
	"io"
	"time"

	"mailweir/config"
)

// start is what a role begins with.
type start struct {
	file   string    // the configuration
	runDir string    // "": run_dir of the file
	log    io.Writer // what it says goes there
	now    func() time.Time
}

// load reads the configuration that the role starts with.
func (s *start) load(role string) (cfg config.Config, alarms []string, err error) {
	cfg, alarms, err = startConfig(s.file, role)
	if err == nil && s.runDir == "" {
		s.runDir = cfg.RunDir
	}
	return cfg, alarms, err
}

package settings

import (
	"io"
	"time"

	"mailweir/config"
)

// Start is what a role begins with.
type Start struct {
	File   string    // the configuration
	RunDir string    // "": run_dir of the file
	Log    io.Writer // what it says goes there
	Now    func() time.Time
}

// Load reads the configuration that the role starts with.
func (s *Start) Load(role string) (cfg config.Config, alarms []string, err error) {
	cfg, alarms, err = startConfig(s.File, role)
	if err == nil && s.RunDir == "" {
		s.RunDir = cfg.RunDir
	}
	return cfg, alarms, err
}

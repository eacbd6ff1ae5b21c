package settings

import (
	"fmt"
	"path/filepath"

	"mailweir/firewall/guard"
)

// SetAside ends the name of a file that could not be read, from where whoever
// read it went on without it.
const SetAside = ".damaged"

// DamageOf says what was set aside of a file, and what is lost with it; "":
// nothing.
func DamageOf(dir, name, loss string) string {
	aside, err := filepath.Glob(filepath.Join(dir, name+SetAside+"*"))
	if err != nil || len(aside) == 0 {
		return ""
	}
	return fmt.Sprintf("%s was damaged: %s; it lies in %s now, delete it once you have looked", name, loss, aside[0])
}

// DamagedConfig is the alarm of guard's copy of the last good configuration.
func DamagedConfig(stateDir string) []guard.Alarm {
	if text := DamageOf(filepath.Join(stateDir, "guard"), Kept, KeptLoss); text != "" {
		return []guard.Alarm{{Name: "damaged_" + Kept, Text: text}}
	}
	return nil
}

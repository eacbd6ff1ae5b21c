package main

import (
	"fmt"
	"path/filepath"

	"mailweir/firewall/guard"
)

// setAside ends the name of a file that could not be read, from where whoever
// read it went on without it.
const setAside = ".damaged"

// damageOf says what was set aside of a file, and what is lost with it; "":
// nothing.
func damageOf(dir, name, loss string) string {
	aside, err := filepath.Glob(filepath.Join(dir, name+setAside+"*"))
	if err != nil || len(aside) == 0 {
		return ""
	}
	return fmt.Sprintf("%s was damaged: %s; it lies in %s now, delete it once you have looked", name, loss, aside[0])
}

// damagedConfig is the alarm of guard's copy of the last good configuration.
func damagedConfig(stateDir string) []guard.Alarm {
	if text := damageOf(filepath.Join(stateDir, "guard"), keptConfig, keptLoss); text != "" {
		return []guard.Alarm{{Name: "damaged_" + keptConfig, Text: text}}
	}
	return nil
}

package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"mailweir/firewall/guard"
	"mailweir/record"
)

// setAside ends the name of a file that could not be read, from where whoever
// read it went on without it.
const setAside = ".damaged"

// losses are what is lost with files of the mail role's folder that are read by
// those who raise no alarms.
var losses = map[string]string{
	"outcomes.log":    "a message whose sender heard no answer may come twice",
	"recipients":      "recipients are asked anew, and while a backend is away they get 451",
	"seal.key":        "who complains of mail from before cannot prove that we delivered it",
	"harvest.key":     "whom sources wrote to before is forgotten",
	"greylist.key":    "senders that waited have to wait again",
	keptConfig:        "had the configuration file been bad too, nothing would have started; the file that is good now is kept in its place",
	"self-signed.pem": "a new certificate is shown, which who pinned the old one has to learn of",
}

// damage raises an alarm for each file that was set aside, until somebody has
// looked and deleted it.
type damage struct {
	dir    string
	alarms record.Alarms
}

func (d *damage) look() {
	for _, name := range slices.Sorted(maps.Keys(losses)) {
		if text := damageOf(d.dir, name); text != "" {
			d.alarms.Alarm("damaged_"+name, text)
		} else {
			d.alarms.Clear("damaged_"+name, "what was set aside of it is deleted")
		}
	}
}

// damageOf says what was set aside of a file; "": nothing.
func damageOf(dir, name string) string {
	aside, err := filepath.Glob(filepath.Join(dir, name+setAside+"*"))
	if err != nil || len(aside) == 0 {
		return ""
	}
	return fmt.Sprintf("%s was damaged: %s; it lies in %s now, delete it once you have looked", name, losses[name], aside[0])
}

// damagedConfig is the alarm of guard's copy of the last good configuration.
func damagedConfig(stateDir string) []guard.Alarm {
	if text := damageOf(filepath.Join(stateDir, "guard"), keptConfig); text != "" {
		return []guard.Alarm{{Name: "damaged_" + keptConfig, Text: text}}
	}
	return nil
}

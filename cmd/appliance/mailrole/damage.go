package mailrole

import (
	"maps"
	"slices"

	"mailweir/cmd/appliance/settings"
	"mailweir/record"
)

// losses are what is lost with files of the mail role's folder that are read by
// those who raise no alarms.
var losses = map[string]string{
	"outcomes.log":    "a message whose sender heard no answer may come twice",
	"recipients":      "recipients are asked anew, and while a backend is away they get 451",
	"seal.key":        "who complains of mail from before cannot prove that we delivered it",
	"harvest.key":     "whom sources wrote to before is forgotten",
	"greylist.key":    "senders that waited have to wait again",
	settings.Kept:     settings.KeptLoss,
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
		if text := settings.DamageOf(d.dir, name, losses[name]); text != "" {
			d.alarms.Alarm("damaged_"+name, text)
		} else {
			d.alarms.Clear("damaged_"+name, "what was set aside of it is deleted")
		}
	}
}

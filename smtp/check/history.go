package check

import (
	"fmt"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// History judges a source by what it did before: mail that was accepted speaks
// for it, recipients that do not exist and bans speak against it.
type History struct{ Policy Policy }

// Judge implements smtp.Judge.
func (j History) Judge(f *smtp.Facts) smtp.Verdict {
	h := f.History
	if h == nil || exempt(f) {
		return pass
	}
	score, detail := weighHistory(h)
	switch v := j.Policy.weighed(reply.History, detail, score); {
	case score == 0:
		return pass
	case score < 0 && v.Action != reply.Pass: // a refusal is for who has a bad past
		return pass
	default:
		return v
	}
}

// weighHistory is what a past is worth, from 4 down to -4. A few unknown
// recipients are what old address books have.
func weighHistory(h *smtp.History) (score float64, detail string) {
	share := 0.0
	if h.Bad > 0 {
		share = float64(h.Bad) / float64(h.Bad+h.Good)
	}
	bad := fmt.Sprintf("%d of %d recipients unknown", h.Bad, h.Bad+h.Good)
	good := counted(h.Mails, "mail") + " on " + counted(h.Days, "day")
	switch {
	case h.Convicted:
		return 4, "was banned of late"
	case h.Bad >= 20 && share >= 0.9:
		return 4, bad
	case h.Bad >= 10 && share >= 0.5:
		return 2, bad
	case share >= 0.5 || h.Mails == 0:
		return 0, ""
	case h.Mails >= 20 && h.Days >= 3 && share < 0.2:
		return -4, good
	case h.Mails >= 5 && h.Days >= 2:
		return -2, good
	}
	return -1, good
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

package command

import (
	"strings"
	"testing"

	"mailweir/firewall/guard"
)

// What an engine that is at work said before is not shown as if it were so now.
func TestEngineAtWork(t *testing.T) {
	said := map[string]uint64{"banned": 1}
	for want, e := range map[string]guard.EngineStatus{
		"has not said yet how it stands":      {Working: true, Busy: true},
		"0 bans (7 changes still to be":       {Working: true, Busy: true, Pending: 7, Counters: said},
		"3 bans (when it was last free to":    {Working: true, Busy: true, Bans: 3, Counters: said},
		"3 bans; ":                            {Working: true, Bans: 3, Counters: said},
		"3 bans (1 change still to be writte": {Working: true, Bans: 3, Pending: 1, Counters: said},
	} {
		if line := engineLine(e); !strings.Contains(line, want) {
			t.Errorf("%+v: %q, want %q", e, line, want)
		}
	}
}

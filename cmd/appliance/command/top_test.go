package command

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/smtp/harvest"
)

// On a terminal of the usual size each attacker is a line that has all of it,
// the beginning of his latest guess included, whatever his address.
func TestTopFitsEightyColumns(t *testing.T) {
	for _, prefix := range []string{"203.0.113.7/32", "2001:db8:ffff:ffff::/64"} {
		v := mailapi.Top{Alarms: []string{strings.Repeat("long ", 40)}}
		for range 40 {
			v.Attackers = append(v.Attackers, harvest.Attacker{
				Source: netip.MustParsePrefix(prefix), Unknown: 1200, Valid: 300, Share: 1, Rate: 999.9,
				Rule: harvest.RuleAbsolute, Nearby: 1, Guess: "charlotte@example.com",
			})
		}
		var out bytes.Buffer
		new(cli).printTop(&out, v, 80, 24)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) > 24 {
			t.Errorf("%d lines", len(lines))
		}
		shown := 0
		for _, l := range lines {
			if utf8.RuneCountInString(l) > 80 {
				t.Errorf("%d columns: %s", utf8.RuneCountInString(l), l)
			}
			if strings.Contains(l, "absolute charlo") {
				shown++
			}
		}
		if shown < 14 {
			t.Errorf("%d attackers shown whole:\n%s", shown, out.String())
		}
	}
}

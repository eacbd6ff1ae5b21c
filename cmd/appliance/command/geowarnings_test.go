package command

import (
	"net/netip"
	"testing"

	"mailweir/cmd/appliance/mailapi"
)

// Who is hit is named, and how many there are besides.
func TestHitText(t *testing.T) {
	some := []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.1")}
	for want, h := range map[string]mailapi.GeoHit{
		"geo.drop NL hits 2 senders whose mail was taken before (203.0.113.2, 203.0.113.1)":      {Key: "geo.drop", Rule: "NL", Senders: 2, Some: some},
		"geo.ban AS64500 hits 1 sender whose mail was taken before (203.0.113.2)":                {Key: "geo.ban", Rule: "AS64500", Senders: 1, Some: some[:1]},
		"geo.reject FR hits 3 senders whose mail was taken before (203.0.113.2, 203.0.113.1, …)": {Key: "geo.reject", Rule: "FR", Senders: 3, Some: some},
	} {
		if got := hitText(h); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

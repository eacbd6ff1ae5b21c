package mailrole

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/config"
	"mailweir/geo"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
)

// Of the senders that are known to be good, those are counted whom a rule
// names; strangers are not.
func TestRulesThatHitKnownSenders(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	w := harvest.New(harvest.Default, harvest.Options{})
	for i, a := range []string{"203.0.113.1", "203.0.113.2", "198.51.100.1"} {
		src := smtp.Source{Addr: netip.MustParseAddr(a), Tier: smtp.New}
		w.Finished(now.Add(time.Duration(i)*time.Second), src, smtp.Accepted, "")
	}
	w.Recipient(now, smtp.Source{Addr: netip.MustParseAddr("203.0.113.3"), Tier: smtp.New},
		smtp.Recipient{To: "nobody@example.com", Oracle: smtp.Unknown, Reason: "unknown_user"}, false)
	known := w.WellKnown(now)
	if len(known) != 3 {
		t.Fatalf("known are %v, want the three whose mail was taken", known)
	}
	if later := w.WellKnown(now.AddDate(0, 0, 40)); len(later) > 0 {
		t.Errorf("known after 40 days are %v", later)
	}
	rules := config.Geo{Drop: []string{"NL", "DE"}, Ban: []string{"AS64500"}, Where: config.Where{Reject: []string{"FR"}}}
	hits := hitsOf(rules, known, func(a netip.Addr) geo.Origin {
		if a.String() == "198.51.100.1" {
			return geo.Origin{Country: "FR", ASN: 64500}
		}
		return geo.Origin{Country: "NL"}
	})
	want := []mailapi.GeoHit{
		{Key: "geo.drop", Rule: "NL", Senders: 2, Some: []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.1")}},
		{Key: "geo.ban", Rule: "AS64500", Senders: 1, Some: []netip.Addr{netip.MustParseAddr("198.51.100.1")}},
		{Key: "geo.reject", Rule: "FR", Senders: 1, Some: []netip.Addr{netip.MustParseAddr("198.51.100.1")}},
	}
	if !reflect.DeepEqual(hits, want) {
		t.Errorf("got\n%+v\nwant\n%+v", hits, want)
	}
}

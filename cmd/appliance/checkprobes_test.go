package main

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/record"
	"mailweir/smtp/greylist"
	"mailweir/smtp/rdns"
	"mailweir/smtp/reply"
)

// onBL is the address that the lab's DNS list has.
const onBL = "203.0.113.1"

var (
	aList   = map[string]string{"dnsbl.bl.zone": `"bl.example"`, "dnsbl.bl.scores": `{ "127.0.0.2" = 9 }`}
	dutch   = map[string]string{"geo.database": `"/etc/mailweir/country.mmdb"`}
	literal = func(b *keyBench) bool { return b.judged("198.18.200.1", "198.18.200.1").Reason == reply.HELOAddress }
	abroad  = func(b *keyBench) bool { return b.judged("198.18.200.1", "out.example").Reason == reply.Geo }
	onList  = func(b *keyBench) bool { return b.judged(onBL, "out.example").Reason == reply.DNSBL }
)

// aFeed has all sources of the bench, and two more networks.
var aFeed = map[string]string{"feed.drop.source": `"/etc/mailweir/feed"`}

// fed waits until the feed was read, with what is wrong; false: there is none, or
// that is not.
func (b *keyBench) fed(why string) bool {
	b.t.Helper()
	if len(b.cfg.Feeds) == 0 {
		return false
	}
	b.Eventually(20*time.Second, "the feed is read", func() bool { return !b.status().Mail.Feeds[0].Tried.IsZero() })
	return strings.Contains(b.status().Mail.Feeds[0].Why, why) && (why != "" || b.status().Mail.Feeds[0].Entries == 2)
}

func turnedAway(b *keyBench) bool {
	if !b.fed("") {
		return false
	}
	_, greeting := b.call(b.source())
	return greeting.Code == 554
}

// greyAll puts off all strangers.
var greyAll = map[string]string{"greylist.mode": `"all"`}

func waits20(b *keyBench) bool {
	return strings.Contains(b.judged("198.18.200.1", "out.example").Text, "try again in 20 min")
}

// ofDomain is the greylist of example.com.
func ofDomain(b *keyBench) greylist.Terms {
	p, _ := settings.DomainChecks(settings.Checks(b.cfg), b.cfg.Domains[0])
	return p.Greylist.Terms
}

// checkProbes are those of the keys that judges look at; weir test asks them.
var checkProbes = map[string]probe{
	"geo.reject":          {set: `["NL"]`, with: dutch, seen: abroad},
	"geo.score":           {set: `{ NL = 9 }`, with: dutch, seen: abroad},
	"checks.profile":      {set: `"strict"`, seen: literal},
	"checks.reject_score": {set: `3`, seen: literal},
	"checks.rdns_keywords": {set: `["cust"]`, seen: func(b *keyBench) bool { // smtp/rdns's tests have names of all kinds
		class, _ := settings.Classifier(b.cfg.Checks.RDNSKeywords)("cust-7.isp.example", netip.MustParseAddr("198.18.200.1"))
		return class == string(rdns.Dynamic)
	}},
	"checks.set": {set: `{ rdns_missing = "off", sender_nxdomain = "off", helo_unresolvable = "off", helo_address = "reject" }`,
		seen: literal},
	"dnsbl.NAME.zone":   {set: `"bl.example"`, also: map[string]string{"dnsbl.bl.scores": `{ "127.0.0.2" = 9 }`}, seen: onList},
	"dnsbl.NAME.kind":   {set: `"allow"`, with: aList, seen: func(b *keyBench) bool { return !onList(b) }},
	"dnsbl.NAME.scores": {set: `{ "127.0.0.1-3" = 9 }`, with: map[string]string{"dnsbl.bl.zone": `"bl.example"`}, seen: onList},
	"dnsbl.NAME.lookup": {set: `"https://look.example/%{addr}"`, with: aList, seen: func(b *keyBench) bool {
		return strings.Contains(b.judged(onBL, "out.example").Text, "https://look.example/"+onBL)
	}},
	"dnsbl.NAME.reply": {set: `"%ip is on %list, mend that"`, with: aList, seen: func(b *keyBench) bool {
		return strings.Contains(b.judged(onBL, "out.example").Text, onBL+" is on bl, mend that")
	}},
	"feed.NAME.source": {set: `"/etc/mailweir/feed"`, seen: turnedAway},
	"feed.NAME.action": {set: `"ban"`, with: aFeed, seen: func(b *keyBench) bool {
		from := b.source()
		if c, _ := b.call(from); c != nil && b.fed("") {
			say(c, "EHLO out.example")
		}
		return b.dropped(from)
	}},
	"feed.NAME.refresh":     {set: `"1h"`, with: aFeed, seen: func(b *keyBench) bool { return b.fed("") && b.status().Mail.Feeds[0].Every == "1h0m0s" }}, // feed's tests have it under their own clock
	"feed.NAME.max_entries": {set: "1", with: aFeed, seen: func(b *keyBench) bool { return b.fed("max_entries") }},
	"providers.spare": {set: `["pool.example"]`, with: aList, seen: func(b *keyBench) bool {
		if slices.Contains(b.cfg.Spare, "pool.example") {
			b.Eventually(20*time.Second, "the provider is looked up", func() bool { return b.status().Mail.Providers[0].Networks == 1 })
		}
		return b.judged(onBL, "out.example").Reason == ""
	}},
	"domain.NAME.observe": {set: "true", with: map[string]string{"geo.database": `"/etc/mailweir/country.mmdb"`, "geo.reject": `["NL"]`},
		seen: func(b *keyBench) bool { return b.judged("198.18.200.1", "out.example").Reason == "" }},
	"greylist.mode":               {set: `"all"`, seen: func(b *keyBench) bool { return b.judged("198.18.200.1", "out.example").Reason == reply.Greylisted }},
	"greylist.delay":              {set: `"20m"`, with: greyAll, seen: waits20},
	"greylist.window":             {set: `"3h"`, seen: func(b *keyBench) bool { return settings.Checks(b.cfg).Greylist.Terms.Window == 3*time.Hour }}, // smtp/greylist's tests have both under their own clock
	"greylist.pass":               {set: `"3d"`, seen: func(b *keyBench) bool { return settings.Checks(b.cfg).Greylist.Terms.Pass == 72*time.Hour }},
	"domain.NAME.greylist.mode":   {set: `"off"`, with: greyAll, seen: func(b *keyBench) bool { return b.judged("198.18.200.1", "out.example").Reason != reply.Greylisted }},
	"domain.NAME.greylist.delay":  {set: `"20m"`, with: greyAll, seen: waits20},
	"domain.NAME.greylist.window": {set: `"3h"`, seen: func(b *keyBench) bool { return ofDomain(b).Window == 3*time.Hour }},
	"domain.NAME.greylist.pass":   {set: `"3d"`, seen: func(b *keyBench) bool { return ofDomain(b).Pass == 72*time.Hour }},
	"domain.NAME.profile":         {set: `"strict"`, seen: literal},
	"domain.NAME.reject_score":    {set: `3`, seen: literal},
	"domain.NAME.set":             {set: `{ helo_address = "reject" }`, seen: literal},
	"domain.NAME.geo.reject":      {set: `["NL"]`, with: dutch, seen: abroad},
	"domain.NAME.geo.score":       {set: `{ NL = 9 }`, with: dutch, seen: abroad},
}

// judgement is what a connection would come to.
type judgement struct {
	Reason reply.Reason
	Text   string
}

// judged is what would become of a message from an address, once the DNS lists
// have been tested.
func (b *keyBench) judged(from, helo string) (j judgement) {
	b.t.Helper()
	b.Eventually(20*time.Second, "the lists are tested", func() bool {
		for _, l := range b.status().Mail.Lists {
			if strings.Contains(l.Why, "under way") {
				return false
			}
		}
		return true
	})
	out, _ := b.weir.Cmd(b.t.Context(), "test", "--from", from, "--helo", helo, "--mail", "a@out.example", "--rcpt", b.rcpt(), "--json", "--run-dir", b.cfg.RunDir)
	var l record.Line
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		b.t.Fatalf("weir test says %q: %v", out, err)
	}
	if l.Reason != nil {
		j.Reason = *l.Reason
	}
	if l.Reply != nil {
		j.Text = l.Reply.Text
	}
	return j
}

// R-BW-10: these words and no others, until the operator says so.
func TestDefaultKeywords(t *testing.T) {
	if got := config.Default().Checks.RDNSKeywords; !slices.Equal(got, rdns.DefaultKeywords) {
		t.Errorf("the file has %q, the classifier %q", got, rdns.DefaultKeywords)
	}
}

// The checks that the file knows are those that the judges have.
func TestChecksOfTheFileAreThoseOfTheJudges(t *testing.T) {
	if got, want := strings.Join(config.CheckNames, " "), strings.Join(reply.Settable(), " "); got != want {
		t.Errorf("the file has\n%s\nand the table of replies\n%s", got, want)
	}
}

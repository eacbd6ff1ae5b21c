package record

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// One record, found by ref, address, sender and recipient ("each refusal …
// (c)"), and by time and reason.
func TestSearch(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	a := tx(start, "203.0.113.7", "Spam@Sender.example", "u1@example.com")
	b := tx(start.Add(time.Minute), "203.0.113.8", "", "u1@example.com")
	c := tx(start.Add(2*time.Minute), "2001:db8::7", "c@sender.example", "U2@example.com")
	c.Facts.Rcpts = append(c.Facts.Rcpts, smtp.Recipient{To: "u1@example.com", Reason: reply.Harvest})
	d := tx(start.Add(3*time.Minute), "203.0.113.7", "d@sender.example", "u4@example.com")
	d.Facts.MailFrom, d.Facts.Rcpts, d.Reason = nil, nil, reply.EarlyTalk
	b.Checks = []smtp.Check{{Name: "harvest", Action: reply.Log, Reason: reply.TooManyUnknown, Detail: "would reject"}}
	for _, x := range []smtp.Transaction{b, a, d, c} { // not in the order of their times
		f.Record(x)
	}
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		q    Query
		want []string
	}{
		"everything":           {Query{}, refs(d, c, b, a)},
		"newest two":           {Query{Limit: 2}, refs(d, c)},
		"ref":                  {Query{Ref: b.Facts.Ref}, refs(b)},
		"unknown ref":          {Query{Ref: ref.New()}, nil},
		"address":              {Query{Addr: prefix("203.0.113.7/32")}, refs(d, a)},
		"address v6":           {Query{Addr: prefix("2001:db8::7/128")}, refs(c)},
		"prefix":               {Query{Addr: prefix("203.0.113.0/24")}, refs(d, b, a)},
		"half a prefix":        {Query{Addr: prefix("203.0.113.8/29")}, refs(b)},
		"quarter of a prefix":  {Query{Addr: prefix("203.0.113.4/30")}, refs(d, a)},
		"all of v4":            {Query{Addr: prefix("0.0.0.0/0")}, refs(d, b, a)},
		"prefix v6":            {Query{Addr: prefix("2001:db8::/32")}, refs(c)},
		"sender":               {Query{Sender: "spam@sender.EXAMPLE"}, refs(a)},
		"null sender":          {Query{Sender: "<>"}, refs(b)},
		"sender in brackets":   {Query{Sender: "<c@sender.example>"}, refs(c)},
		"recipient":            {Query{Rcpt: "u1@example.com"}, refs(c, b, a)},
		"recipient, other key": {Query{Rcpt: "U1@EXAMPLE.com", Sender: "c@sender.example"}, refs(c)},
		"reason":               {Query{Reason: "no_recipients"}, refs(c, b, a)},
		"reason of recipient":  {Query{Reason: "harvest"}, refs(c)},
		"reason and recipient": {Query{Reason: "harvest", Rcpt: "u2@example.com"}, refs(c)},
		"reason, not there":    {Query{Reason: "harvest", Rcpt: "u4@example.com"}, nil},
		"reason of a check":    {Query{Reason: "too_many_unknown"}, refs(b)}, // that observe let through
		"since":                {Query{Since: start.Add(2 * time.Minute)}, refs(d, c)},
		"until":                {Query{Until: start.Add(2 * time.Minute)}, refs(b, a)},
		"between, by reason":   {Query{Since: start.Add(time.Second), Until: start.Add(2 * time.Minute), Reason: "unknown_user"}, refs(b)},
	} {
		if got := f.search(t, tc.q); !same(got, tc.want) {
			t.Errorf("%s: found %v, want %v", name, got, tc.want)
		}
	}
}

// A search for more than one page of records misses none and repeats none.
func TestSearchOverPages(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	var want []string
	for i := range 2*page + 7 {
		x := tx(start.Add(time.Duration(i/3)*time.Millisecond), "203.0.113.7", "a@b.example", "u@example.com")
		f.Record(x)
		want = append(want, x.Facts.Ref.String())
	}
	for _, q := range []Query{{}, {Rcpt: "u@example.com"}, {Addr: netip.MustParsePrefix("203.0.0.0/16")}} {
		got := f.search(t, q)
		seen := map[string]bool{}
		for _, r := range got {
			seen[r] = true
		}
		if len(got) != len(want) || len(seen) != len(want) {
			t.Errorf("%+v: found %d, %d distinct, want %d", q, len(got), len(seen), len(want))
		}
	}
	n := 0
	for range f.Search(context.Background(), Query{}) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("a search that was left early gave %d", n)
	}
}

var harvest = smtp.Conviction{Reason: reply.Harvest, Evidence: smtp.Evidence{
	Rule: "unknown_per_hour", Window: time.Hour, Unknown: 25, Valid: 1, Guesses: []string{"a@example.com", "b@example.com"},
}}

// weir why: everything known of an address, a mailbox, a ref (R-BX-17).
func TestWhy(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	a := tx(start, "203.0.113.7", "spam@sender.example", "u1@example.com")
	b := tx(start.Add(time.Second), "203.0.113.9", "u1@example.com", "u2@example.com")
	f.Record(a)
	f.Record(b)
	f.Convicted(a.Facts.Ref, a.Facts.Peer, start, harvest, true)
	for subject, want := range map[string]struct {
		records     []string
		convictions int
	}{
		a.Facts.Ref.String():                  {refs(a), 1},
		strings.ToLower(b.Facts.Ref.String()): {refs(b), 0},
		"203.0.113.7":                         {refs(a), 1},
		"::ffff:203.0.113.7":                  {refs(a), 1},
		"203.0.113.0/24":                      {refs(b, a), 1},
		"203.0.113.9":                         {refs(b), 0},
		"U1@example.com":                      {refs(b, a), 1},
		"<spam@sender.example>":               {refs(a), 1},
		"nobody@example.com":                  {nil, 0},
	} {
		story, err := f.Why(context.Background(), subject, 10)
		if err != nil {
			t.Errorf("%s: %v", subject, err)
			continue
		}
		var got []string
		for _, b := range story.Records {
			var l Line
			if err := json.Unmarshal(b, &l); err != nil {
				t.Fatal(err)
			}
			got = append(got, l.Ref)
		}
		if !same(got, want.records) || len(story.Convictions) != want.convictions {
			t.Errorf("%s: records %v, convictions %v", subject, got, story.Convictions)
		}
	}
	if _, err := f.Why(context.Background(), "what?", 10); err == nil {
		t.Error("nonsense has a story")
	}
	c, ok, err := f.Conviction(context.Background(), a.Facts.Ref)
	if err != nil || !ok || c.Rule != "unknown_per_hour" || c.Window != "1h0m0s" || len(c.Guesses) != 2 || !c.Enforced {
		t.Errorf("evidence %+v, %v, %v", c, ok, err)
	}
	if _, ok, err := f.Conviction(context.Background(), ref.New()); ok || err != nil {
		t.Errorf("evidence under an unknown ref: %v, %v", ok, err)
	}
}

// weir bans asks for the evidence of all bans at once.
func TestEvidence(t *testing.T) {
	f := begin(t, t.TempDir(), nil)
	want := map[ref.Ref]bool{}
	var all []ref.Ref
	for i := range page + 20 {
		r := ref.New()
		if all = append(all, r); i%2 == 0 {
			f.Convicted(r, netip.MustParseAddr("203.0.113.7"), start, harvest, true)
			want[r] = true
		}
	}
	for c, err := range f.Evidence(context.Background(), all) {
		if err != nil {
			t.Fatal(err)
		}
		if !want[c.Ref] {
			t.Errorf("evidence under %s, twice or never kept", c.Ref)
		}
		delete(want, c.Ref)
	}
	if len(want) > 0 {
		t.Errorf("no evidence under %d refs", len(want))
	}
	for range f.Evidence(context.Background(), nil) {
		t.Error("evidence of no ban")
	}
}

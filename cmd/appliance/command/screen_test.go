package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

// screen is a terminal of so many columns.
type screen struct {
	bytes.Buffer
	columns int
}

func (s *screen) Columns() int { return s.columns }

// lines are what stands on it, all of which have to fit.
func (s *screen) lines(t *testing.T, most int) []string {
	t.Helper()
	list := strings.Split(strings.TrimSuffix(s.String(), "\n"), "\n")
	for _, l := range list {
		if n := utf8.RuneCountInString(l); n > s.columns {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	if most > 0 && len(list) > most {
		t.Errorf("%d lines", len(list))
	}
	if os.Getenv("SHOW") != "" {
		fmt.Println(s.String())
	}
	return list
}

var screenTime = time.Date(2026, 11, 27, 8, 30, 0, 0, time.UTC)

// guessers are attackers as the engine itself tells of them.
func guessers() []harvest.Attacker {
	w := harvest.New(harvest.Default, harvest.Options{})
	for i, a := range []string{"203.0.113.7", "198.51.100.123", "2001:db8:1234:5678::1", "192.0.2.55", "203.0.113.200"} {
		for n := range 24 - 4*i {
			w.Recipient(screenTime.Add(time.Duration(n)*time.Second), smtp.Source{Addr: netip.MustParseAddr(a), Tier: smtp.New},
				smtp.Recipient{To: fmt.Sprintf("charlotte.%c%d@subsidiary.example.com", 'a'+i, n), Oracle: smtp.Unknown}, i == 3)
		}
	}
	return w.Top(screenTime.Add(time.Minute), 50)
}

func TestTopOnAScreen(t *testing.T) {
	s := &screen{columns: 80}
	v := mailapi.Top{
		Time: screenTime, Open: 47, Attackers: guessers(), Bans: 1289,
		Alarms:  []string{"under_attack example.com: strangers name unknown recipients by the dozen; they are told nothing for now, see weir top"},
		Dropped: map[string]uint64{},
		Places:  map[string]firewall.Place{},
		Sources: []smtp.Connected{{Source: netip.MustParsePrefix("203.0.113.7/32"), Open: 9}, {Source: netip.MustParsePrefix("2001:db8:1234:5678::/64"), Open: 1}},
	}
	dropped(v.Dropped, "xdp", map[string]uint64{"clean": 142, "unprotected": 280, "banned": 1829331, "geo": 9077123, "syn_limit": 4411, "flood": 77})
	dropped(v.Dropped, "nft", map[string]uint64{"clean": 142, "local": 5, "banned": 12, "geo": 3, "syn_limit": 0})
	for i, name := range []string{"NL", "DE", "US", "CN", "FR", "", "AS64500", "BR", "IN", "VN", "RU", "GB"} {
		v.Places[name] = firewall.Place{Seen: uint64(90000 - 5000*i), Denied: uint64(i % 3 * 100)}
	}
	(&cli{out: s}).printTop(s, v, 80, 24)
	text := strings.Join(s.lines(t, 24), "\n")
	for _, want := range []string{"under_attack", "see weir top", "xdp syn_limit 4411", "nowhere", "203.0.113.7 ", "2001:db8:1234:5678::/64"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the screen:\n%s", want, text)
		}
	}
	if strings.Contains(text, "clean") || strings.Contains(text, "unprotected") {
		t.Errorf("what was let pass is shown as dropped:\n%s", text)
	}
}

// whyOf is a long answer: a ban by hand and one for harvest, guards, the
// conviction, and a transaction with everything in it.
func longWhy(t *testing.T) whyAnswer {
	t.Helper()
	a := netip.MustParseAddr("2001:db8:1234:5678:9abc:def0:1234:5678")
	from, why := "bounces+charlotte.brown=subsidiary.example.com@newsletter.marketing.example", reply.Harvest
	l := record.Line{
		V: 1, Ref: "K7QM-2V9D-4XTR", Time: record.Time{Time: screenTime}, Peer: a, MailFrom: &from, Outcome: smtp.Dropped, Reason: &why,
		Backend: "office", BackendReply: "550 5.1.1 <charlotte.brown@subsidiary.example.com>: Recipient address rejected: User unknown in virtual mailbox table",
		Checks: []smtp.Check{
			{Name: "rdns", Action: "score", Score: 3, Ms: 12.25, Detail: "the name dynamic-2001-db8-1234-5678.pool.isp.example is that of a dialup pool, by the pattern dynamic"},
			{Name: "dnsbl", Action: reply.Pass, Ms: 103.5},
			{Name: "harvest", Action: reply.Drop, Detail: "unknown_per_hour"},
		},
	}
	for i := range 7 {
		r := reply.UnknownUser.Reply()
		r.Text += " (ref K7QM-2V9D-4XTR, https://mail.example.com/why/K7QM-2V9D-4XTR)"
		l.Rcpts = append(l.Rcpts, record.Rcpt{To: fmt.Sprintf("charlotte.brown%d@subsidiary.example.com", i), Oracle: smtp.Unknown, Reply: &r, Reason: reply.UnknownUser})
	}
	raw, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := a.Prefix(64)
	v := record.Conviction{Peer: a, Time: record.Time{Time: screenTime}, Reason: why, Enforced: true, Rule: harvest.RuleHour, Window: "1h0m0s", Unknown: 25}
	for i := range 25 {
		v.Guesses = append(v.Guesses, fmt.Sprintf("charlotte.brown%d@subsidiary.example.com", i))
	}
	return whyAnswer{Subject: a.String(), Firewall: &guard.Explanation{
		Address: a, Banned: true,
		Bans: []guard.BanInfo{{Prefix: p, Reason: firewall.Harvest, Since: screenTime, Until: screenTime.Add(48 * time.Hour), Step: 2, Why: strings.Repeat("asked for by the abuse desk of the provider ", 3),
			Hits: []guard.EngineHits{{Engine: "xdp", Packets: 1829331}, {Engine: "nft", Packets: 12}}}},
		Allow:  []guard.AllowEntry{{Prefix: p, Author: "root", Why: strings.Repeat("a customer of ours whose server was cleaned ", 2)}},
		Guards: []firewall.Guarded{{Prefix: p, Guard: "a name server that this machine asks, as /etc/resolv.conf and the file have it"}},
	}, Story: record.Story{Convictions: []record.Conviction{v}, Records: []json.RawMessage{raw}}}
}

func TestWhyOnAScreen(t *testing.T) {
	s := &screen{columns: 80}
	if err := (&cli{out: s, now: func() time.Time { return screenTime }}).printWhy(longWhy(t)); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(s.lines(t, 0), "\n")
	for _, want := range []string{"virtual mailbox table", "dialup", "abuse desk", "/etc/resolv.conf", "unknown_per_hour"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the screen", want)
		}
	}
	// To a file each thing stands on a line of its own.
	var file bytes.Buffer
	if err := (&cli{out: &file, now: func() time.Time { return screenTime }}).printWhy(longWhy(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(file.String(), "User unknown in virtual mailbox table\n") {
		t.Errorf("lines are broken in a file:\n%s", file.String())
	}
}

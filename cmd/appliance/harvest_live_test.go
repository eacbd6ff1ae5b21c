package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

// saidByReplay is one line of weir replay, whichever it is.
type saidByReplay struct {
	Ban     string         `json:"ban"`
	Time    record.Time    `json:"time"`
	Ref     string         `json:"ref"`
	Outcome string         `json:"outcome"`
	Reason  string         `json:"reason"`
	Alarm   string         `json:"alarm"`
	Was     map[string]any `json:"was"`
	Summary map[string]int `json:"summary"`
}

// replayed is what weir replay makes of everything on record.
func (b *keyBench) replayed() (list []saidByReplay) {
	b.t.Helper()
	for line := range strings.Lines(b.shell(b.edge, "weir records --limit 0 --json | weir replay -c /etc/mailweir/weir.toml -")) {
		var s saidByReplay
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			b.t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

// What was live, the replay of its records says too: the same ban by the same
// guess at the same time, and no transaction that became something else.
func TestReplayAgreesWithTheKernel(t *testing.T) {
	b := newKeyBench(t)
	good, guesser := b.source(), b.source()
	if c, _ := b.call(good); c == nil {
		t.Fatal("the edge does not greet")
	} else if r, err := c.Deliver("a@out.example", []string{b.rcpt()}, "Subject: hello\r\n\r\nhello\r\n"); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	n := b.guesses(guesser)
	if n != 25 || !b.dropped(guesser) {
		t.Fatalf("%d guesses answered, want 25 and then nothing", n)
	}
	var why struct {
		Convictions []record.Conviction `json:"convictions"`
	}
	b.Eventually(10*time.Second, "the conviction is on record", func() bool {
		return json.Unmarshal([]byte(b.cmd("why", guesser.String(), "--json")), &why) == nil && len(why.Convictions) == 1
	})
	live := why.Convictions[0]
	var bans, changes []saidByReplay
	said := b.replayed()
	for _, s := range said {
		switch {
		case s.Ban != "":
			bans = append(bans, s)
		case s.Ref != "":
			changes = append(changes, s)
		}
	}
	if len(bans) != 1 || bans[0].Ban != guesser.String()+"/32" || !bans[0].Time.Equal(live.Time.Time) || bans[0].Reason != string(live.Reason) {
		t.Errorf("replay bans %+v, live was %v at %v", bans, live.Peer, live.Time)
	}
	if len(changes) != 0 {
		t.Errorf("changed in the replay: %+v", changes)
	}
	if s := said[len(said)-1].Summary; s["bans"] != 1 || s["lines"] < 9 {
		t.Errorf("summary %v", s)
	}
}

// The state outlives a restart: the guesses before it count after it.
func TestRestartForgetsNobody(t *testing.T) {
	b := newKeyBench(t)
	from := b.source()
	c, _ := b.call(from)
	say(c, "EHLO out.example", "MAIL FROM:<a@out.example>")
	for i := range 9 {
		say(c, fmt.Sprintf("RCPT TO:<early%d@example.com>", i))
	}
	c.Close()
	b.weir.Stop()
	b.weir.Start()
	if n := b.guesses(from); n != 16 || !b.dropped(from) {
		t.Errorf("%d guesses answered after the restart, want 16", n)
	}
}

// The directory suddenly refuses everybody (promise 3): nobody is banned, the
// alarm stands within a minute, and who is refused is told to come again.
func TestBrokenDirectoryBansNobody(t *testing.T) {
	b := newKeyBench(t)
	if !b.arrives(b.first) { // a recipient that is known
		t.Fatal("the message did not arrive")
	}
	b.first.refuseAll(true)
	guess, from := 0, b.source()
	ask := func() (code int) {
		c, _ := b.call(from)
		if c == nil {
			return 0
		}
		guess++
		defer c.Close()
		return say(c, "EHLO out.example", "MAIL FROM:<a@out.example>", fmt.Sprintf("RCPT TO:<user-new%d@example.com>", guess)).Code
	}
	b.Eventually(time.Minute, "a recipient hears 451", func() bool { return ask() == 451 })
	alarms := b.status().Mail.Alarms
	if !strings.Contains(strings.Join(alarms, "\n"), "directory of example.com is broken") {
		t.Errorf("alarms %q", alarms)
	}
	for range 60 {
		if code := ask(); code != 451 {
			t.Fatalf("a recipient heard %d", code)
		}
	}
	if out := b.cmd("bans"); !strings.Contains(out, "nobody is banned") {
		t.Errorf("bans: %s", out)
	}
	b.first.refuseAll(false)
	if code := ask(); code != 250 {
		t.Errorf("a good recipient hears %d when the directory is well again", code)
	}
}

// convictsSoon says whether a few guesses convict: fewer than the default of an
// hour, halved as it is under attack.
func convictsSoon(b *keyBench) bool { return b.guesses(b.source()) < 10 }

// convictedBy is the rule by which the settings of the file convict who names so
// many recipients.
func (b *keyBench) convictedBy(unknown, known int) string {
	w := harvest.New(settings.Harvest(b.cfg.Harvest), harvest.Options{})
	now := time.Now()
	src := smtp.Source{Addr: b.source(), Tier: smtp.New}
	for i := range known + unknown {
		now = now.Add(7 * time.Second)
		if i%3 == 0 {
			src.Session, src.Ref = ref.New(), ref.New()
		}
		r := smtp.Recipient{To: fmt.Sprintf("who%d@example.com", i), Route: "office", Oracle: smtp.Unknown, Reason: reply.UnknownUser}
		if i < known {
			r.Oracle, r.Reason = smtp.Valid, ""
		}
		if a := w.Recipient(now, src, r, false); a.Convicted {
			return a.Conviction.Evidence.Rule
		}
	}
	return ""
}

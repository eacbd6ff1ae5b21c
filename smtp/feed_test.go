package smtp_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"mailweir/prefix"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/reply"
)

// fed is a world with a feed whose word is a ban, and entries of the operator.
func fed(t *testing.T, entries ...string) *world {
	return newWorld(t, func(w *world) {
		w.policy("spf", "pass")
		w.policy("helo_name", string(smtp.HELOPeer))
		for _, e := range append(entries, "block_192.0.2.1") {
			w.policy("entry", e)
		}
		w.opts.Access.(*access.List).SetFeeds([]access.Feed{{
			Name: "drop", Source: "test", Bans: true, Set: prefix.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.5/32")}),
		}})
	})
}

// A feed that bans does so by the first command, and where an entry of the
// operator could let the client in by what it says, as soon as none does.
func TestAFeedThatBans(t *testing.T) {
	for entry, let := range map[string]bool{
		"block_192.0.2.2":                                 false,
		"allow_198.51.100.1":                              false,
		"allow_rdns:mail.client.example":                  true,
		"allow_rdns:other.example":                        false,
		"allow_helo:client.example":                       true,
		"allow_from:friend.example":                       true,
		"allow_from:other.example":                        false,
		"allow_127.0.0.0/8_to=office.example":             true,
		"allow_127.0.0.0/8_to=somebody@office.example":    false,
		"allow_127.0.0.5_to=somebody@office.example":      false,
		"allow_rdns:mail.client.example_to=bob@a.example": false,
	} {
		w := fed(t, entry)
		c := w.dial("127.0.0.5")
		c.expect("220 ")
		c.send("HELO client.example\r\nMAIL FROM:<a@friend.example>\r\nRCPT TO:<alice@office.example>\r\n")
		if let {
			for _, code := range []string{"250", "250", "250"} {
				c.expect(code)
			}
			c.nc.Close()
		} else {
			for err := error(nil); err == nil; {
				_, err = c.line()
			}
		}
		w.stop()
		if got := len(w.offender.filed()); (got == 0) != let {
			t.Errorf("with %s guard heard of %d", entry, got)
		}
		if r := w.recorder.all(); let == slices.ContainsFunc(r, func(t smtp.Transaction) bool { return t.Reason == reply.Feed }) {
			t.Errorf("with %s the records tell of it otherwise: %+v", entry, r)
		}
		if n := len(w.recorder.convictions()); (n == 0) != let || n > 1 {
			t.Errorf("with %s there are %d convictions", entry, n)
		}
	}
}

// What a client says after a MAIL that was refused is no fact of that.
func TestARefusedMailIsOverWithTheNextHello(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	c.expect("220 ")
	c.ask("EHLO first.example", "250 ")
	c.ask("MAIL FROM:<no address>", "501 ")
	c.ask("EHLO second.example", "250 ")
	c.ask("MAIL FROM:<b b>", "501 ")
	c.ask("RSET", "250 ")
	c.ask("NOOP", "250 ")
	if n := len(w.recorder.all()); n != 2 {
		t.Errorf("%d records after RSET, want 2", n)
	}
	c.nc.Close()
	w.stop()
	for i, want := range []string{"first.example", "second.example"} {
		if r := w.recorder.wait(t, i); r.Facts.HELO != want {
			t.Errorf("record %d has HELO %s, want %s", i, r.Facts.HELO, want)
		}
	}
}

// falling is lists that a fault of ours makes fall at a HELO.
type falling struct {
	*access.List
	asked atomic.Int64
}

func (f *falling) FindBlocked(netip.Addr) (access.Entry, bool) {
	if f.asked.Add(1) == 2 {
		panic("a fault of ours")
	}
	return access.Entry{}, false
}

// R-BW-E10: a fault of ours between transactions ends that connection, and no other.
func TestAFaultAtHello(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.policy("entry", "block_192.0.2.1")
		w.opts.Access = &falling{List: w.opts.Access.(*access.List)}
	})
	c := w.dial("127.0.0.5")
	c.expect("220 ")
	c.send("HELO client.example\r\n")
	c.ended()
	d := w.dial("127.0.0.5")
	d.open("a@client.example")
	d.ask("RCPT TO:<alice@office.example>", "250 ")
}

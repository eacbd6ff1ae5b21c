package replay_test

import (
	"fmt"
	"net/netip"
	"time"

	"mailweir/smtp"
)

// twins are the scenes: who attacks, and an innocent that differs in one fact.
// A scene is told whether it plays the attacker.
var twins = map[string]func(s *stage, attacker bool){
	"fast-or-stale-list":          fast,
	"slow-or-removed-mailboxes":   slow,
	"very-slow-or-monitor":        verySlow,
	"botnet-or-freemail-pool":     botnet,
	"rotating-64-or-provider":     rotating64,
	"rotating-48-or-university":   rotating48,
	"snowshoe-or-hosting":         snowshoe,
	"mixing-or-careless":          mixing,
	"null-sender-or-bounce-wave":  nullSender,
	"guesser-or-callouts":         callouts,
	"host-or-nat-with-good-users": nat,
	"stranger-or-forwarder":       forwarder,
	"guesser-or-broken-directory": brokenDirectory,
	"thin-botnet-or-newsletter":   thinBotnet,
	"typos":                       typos,
}

// A list of 200, mailed at once: guessed, or once valid.
func fast(s *stage, attacker bool) {
	a := addr("203.0.113.7")
	for i := range 200 {
		if !attacker {
			s.after(time.Second)
			s.send(addr("192.0.2.200"), "list@partner.example", good(fmt.Sprintf("g%d@example.com", i))...)
		}
	}
	s.now = s.now.Add(20 * 24 * time.Hour)
	for i := range 200 {
		s.after(2 * time.Second)
		s.send(a, "news@list.example", bad(fmt.Sprintf("g%d@example.com", i))...)
		if i%10 == 0 && !attacker { // others are served meanwhile
			s.send(addr("192.0.2.201"), "x@other.example", good(person(i))...)
		}
	}
	s.verdict(attacker, a, 25)
}

func (s *stage) verdict(attacker bool, a netip.Addr, by int) {
	if attacker {
		s.truth.Banned[a] = by
	} else {
		s.truth.Never = append(s.truth.Never, a)
	}
}

// One recipient a minute: guessed, or mailboxes that were closed last week.
func slow(s *stage, attacker bool) {
	a := addr("203.0.113.8")
	s.office(120)
	for i := range 90 {
		if !attacker {
			s.after(time.Minute)
			s.send(a, "crm@partner.example", good(fmt.Sprintf("left%d@example.com", i))...)
		}
	}
	s.now = s.now.Add(9 * 24 * time.Hour)
	for i := range 90 {
		s.after(time.Minute)
		s.send(a, "crm@partner.example", bad(fmt.Sprintf("left%d@example.com", i))...)
		if i%3 == 0 {
			s.send(addr("192.0.2.200"), "list@partner.example", good(person(i))...)
		}
	}
	s.verdict(attacker, a, 25)
}

// Three an hour for days: different ones, or always the one that a monitor
// probes.
func verySlow(s *stage, attacker bool) {
	a := addr("203.0.113.9")
	for i := range 24 * 3 * 4 {
		s.after(20 * time.Minute)
		to := "probe@example.com"
		if attacker {
			to = fmt.Sprintf("v%d@example.com", i)
		}
		s.probe(a, "monitor@watch.example", bad(to)...)
	}
	s.verdict(attacker, a, 60)
}

// 400 addresses name four recipients each within minutes: of one list of
// guesses, or the typos of a freemail pool's users among good addresses.
func botnet(s *stage, attacker bool) {
	s.office(60)
	for i := range 400 {
		s.after(time.Second)
		a := netip.AddrFrom4([4]byte{byte(60 + i%37), byte(s.rng.IntN(256)), byte(i), byte(1 + i%250)})
		var rcpts []said
		for g := range 4 {
			if attacker {
				rcpts = append(rcpts, bad(fmt.Sprintf("name%d@example.com", (i*4+g)%40))...)
			} else if g == 0 && i%3 == 0 {
				rcpts = append(rcpts, bad(fmt.Sprintf("persno%d@example.com", s.rng.IntN(20)))...)
			} else {
				rcpts = append(rcpts, good(person(s.rng.IntN(60)))...)
			}
		}
		s.send(a, "u@freemail.example", rcpts...)
		if !attacker {
			s.truth.Never = append(s.truth.Never, a)
		}
	}
	if attacker {
		s.truth.Stopped[netip.MustParsePrefix("0.0.0.0/1")] = 0.8
		s.truth.Never = append(s.truth.Never, addr("192.0.2.200"))
	}
}

// Guesses from ever new addresses of one /64; or a provider's outbound hosts
// there, whose users err one time in ten.
func rotating64(s *stage, attacker bool) {
	p := netip.MustParsePrefix("2001:db8:64::/64").Addr().As16()
	a := netip.AddrFrom16(p)
	s.office(50)
	for i := range 300 {
		s.after(20 * time.Second)
		p[14], p[15] = byte(s.rng.IntN(256)), byte(i)
		if attacker || i%10 == 0 {
			s.send(netip.AddrFrom16(p), "x@six.example", bad(fmt.Sprintf("r%d@example.com", i))...)
		} else {
			s.send(netip.AddrFrom16(p), "x@six.example", good(person(s.rng.IntN(50)))...)
		}
	}
	s.verdict(attacker, a, 25)
}

// As above over the /64s of a /48: each guess from a new one; or the hosts of
// a university.
func rotating48(s *stage, attacker bool) {
	p := netip.MustParsePrefix("2001:db8:48::/48").Addr().As16()
	s.office(50)
	for i := range 400 {
		s.after(20 * time.Second)
		p[6], p[7], p[15] = byte(s.rng.IntN(4)), byte(s.rng.IntN(256)), 1
		a := netip.AddrFrom16(p)
		if attacker || i%10 == 0 {
			s.send(a, "x@six.example", bad(fmt.Sprintf("r%d@example.com", i))...)
		} else {
			s.send(a, "x@six.example", good(person(s.rng.IntN(50)))...)
		}
		if !attacker {
			s.truth.Never = append(s.truth.Never, a)
		} else if i > 80 {
			s.truth.Banned[a] = 300 // whoever guesses after the network is known
		}
	}
}

// 60 addresses of a /24, five recipients each in an hour: guessed, or the
// customers of a hoster with a typo each.
func snowshoe(s *stage, attacker bool) {
	s.office(50)
	for i := range 300 {
		s.after(10 * time.Second)
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 60)})
		if attacker || i < 60 {
			s.send(a, "x@snow.example", bad(fmt.Sprintf("s%d@example.com", i))...)
		} else {
			s.send(a, "x@snow.example", good(person(s.rng.IntN(50)))...)
		}
		if attacker {
			s.truth.Banned[a] = 4
		} else if i >= 60 && i < 120 {
			s.truth.Never = append(s.truth.Never, a)
		}
	}
}

// A bought list: 60 % of it unknown, or 25 %.
func mixing(s *stage, attacker bool) {
	a := addr("203.0.113.11")
	s.office(100)
	for i := range 60 {
		s.after(time.Minute)
		var rcpts []said
		for g := range 20 {
			if wrong := g % 20; attacker && wrong < 12 || wrong < 5 {
				rcpts = append(rcpts, bad(fmt.Sprintf("m%d-%d@example.com", i, g))...)
			} else {
				rcpts = append(rcpts, good(person(s.rng.IntN(100)))...)
			}
		}
		if !attacker && i >= 50 {
			break
		}
		s.send(a, "x@mix.example", rcpts...)
	}
	s.verdict(attacker, a, 50)
}

// 300 notifications to unknown recipients in half an hour: alone, or among
// those of many others, since somebody forges our senders.
func nullSender(s *stage, attacker bool) {
	a := addr("203.0.113.12")
	for i := range 300 {
		s.after(6 * time.Second)
		if !attacker {
			s.probe(netip.AddrFrom4([4]byte{100, 64, byte(i / 250), byte(i % 250)}), "", bad(fmt.Sprintf("forged%d@example.com", s.rng.IntN(1000)))...)
		}
		s.probe(a, "", bad(fmt.Sprintf("forged%d@example.com", 1000+i))...)
	}
	s.verdict(attacker, a, 200)
}

// 40 checks an hour of addresses that do not exist: with a sender, or as
// callouts, of the null sender and never with a message (R-RN-15).
func callouts(s *stage, attacker bool) {
	a := addr("203.0.113.13")
	from := ""
	if attacker {
		from = "x@guess.example"
	}
	for i := range 40 * 10 {
		s.after(90 * time.Second)
		s.probe(a, from, bad(fmt.Sprintf("c%d@example.com", i))...)
	}
	s.verdict(attacker, a, 25)
}

// An infected machine guesses 90 in an hour: alone, or behind the address by
// which an office of good users has written for days.
func nat(s *stage, attacker bool) {
	a := addr("203.0.113.14")
	s.office(60)
	for d := range 4 {
		for range 12 {
			s.after(30 * time.Minute)
			if !attacker {
				s.send(a, "u@firm.example", good(person(s.rng.IntN(60)))...)
			}
		}
		s.now = s.now.Add(time.Duration(d) * 0).Add(14 * time.Hour)
	}
	for i := range 90 {
		s.after(40 * time.Second)
		s.send(a, "x@bot.example", bad(fmt.Sprintf("n%d@example.com", i))...)
		if !attacker && i%4 == 0 {
			s.send(a, "u@firm.example", good(person(s.rng.IntN(60)))...)
		}
	}
	s.verdict(attacker, a, 25)
}

// A host passes on what comes to closed addresses: nobody's, or the operator's
// own backup.
func forwarder(s *stage, attacker bool) {
	a := addr("203.0.113.15")
	if !attacker {
		s.truth.Protected = []netip.Prefix{prefixOf(a)}
	}
	for i := range 100 {
		s.after(30 * time.Second)
		s.send(a, "x@anywhere.example", bad(fmt.Sprintf("f%d@example.com", i))...)
	}
	s.verdict(attacker, a, 25)
}

// Every recipient is unknown of a sudden: such as nobody knew, or those that
// were taken an hour before.
func brokenDirectory(s *stage, attacker bool) {
	senders := []netip.Addr{addr("203.0.113.16"), addr("203.0.113.17"), addr("203.0.113.18")}
	for i := range 120 {
		s.after(30 * time.Second)
		to := person(i)
		if attacker {
			to = fmt.Sprintf("other%d@example.com", i)
		}
		s.send(addr("192.0.2.200"), "x@firm.example", good(to)...)
	}
	s.now = s.now.Add(time.Hour)
	for i := range 120 {
		s.after(10 * time.Second)
		s.send(senders[i%3], "x@firm.example", bad(person(i))...)
	}
	if !attacker {
		s.truth.Alarms = []string{"directory_broken"}
	}
	for _, a := range senders {
		s.verdict(attacker, a, 25)
	}
}

// R-BX-14: a burst of typos among good recipients is never one.
func typos(s *stage, attacker bool) {
	a := addr("203.0.113.19")
	s.office(40)
	for i := range 25 {
		s.after(time.Minute)
		state := smtp.Valid
		to := person(s.rng.IntN(40))
		if i%5 == 0 || attacker {
			state, to = smtp.Unknown, fmt.Sprintf("tpyo%d@example.com", i)
		}
		s.send(a, "u@firm.example", said{to, state})
	}
	s.verdict(attacker, a, 25)
}

// 4,000 addresses name two recipients each: guesses, each its own, or a
// newsletter's readers.
func thinBotnet(s *stage, attacker bool) {
	s.office(50)
	for i := range 4000 {
		s.after(200 * time.Millisecond)
		a := netip.AddrFrom4([4]byte{byte(1 + s.rng.IntN(120)), byte(s.rng.IntN(256)), byte(s.rng.IntN(256)), byte(1 + s.rng.IntN(250))})
		rcpts := good(person(s.rng.IntN(50)), person(s.rng.IntN(50)))
		if attacker {
			rcpts = bad(fmt.Sprintf("thin%d@example.com", 2*i), fmt.Sprintf("thin%d@example.com", 2*i+1))
		}
		s.send(a, "u@thin.example", rcpts...)
	}
	s.truth.Never = append(s.truth.Never, addr("192.0.2.200"))
	if attacker {
		s.truth.Stopped[netip.MustParsePrefix("0.0.0.0/1")] = 0.9
		s.truth.Alarms = []string{"under_attack"}
	}
}

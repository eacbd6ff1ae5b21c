package replay_test

import (
	"fmt"
	"mailweir/smtp"
	"mailweir/smtp/reply"
	"math"
	"net/netip"
	"slices"
	"time"
)

// newsletterHosts: 3 to 8 % of the readers never were.
func newsletterHosts(s *sweep) {
	hosts := s.pool(1 + s.rng.IntN(12))
	share, size := 0.03+0.05*s.rng.Float64(), 1+s.rng.IntN(2)*s.rng.IntN(50)
	pause, readers := seconds(s.within(0.05, 8)), int(s.within(300, 6000))
	if most := int(250 * float64(len(hosts)) / share); readers > most {
		readers = most // absolute_per_day knows no share, and who is new today no mercy
	}
	s.note("newsletter of %d hosts, %d readers, %.1f %%, %d a message, one in %v", len(hosts), readers, 100*share, size, pause)
	for part := range slices.Chunk(s.readers(readers, share), size) {
		s.after(pause * time.Duration(size))
		s.send(s.one(hosts), "news@letter.example", part...)
	}
	s.never(hosts...)
}

// readers are n different ones, of whom a share is unknown.
func (s *sweep) readers(n int, share float64) (list []said) {
	d := s.domain()
	for i := range n {
		if s.rng.Float64() < share {
			list = append(list, s.slip())
		} else {
			list = append(list, good(fmt.Sprintf("reader%d@%s", i, d))...)
		}
	}
	return list
}

// refusedNewsletter: the same, but no message of it is taken.
func refusedNewsletter(s *sweep) {
	hosts := s.pool(1 + s.rng.IntN(3))
	share := 0.03 + 0.05*s.rng.Float64()
	pause := seconds(s.within(0.5, 8))
	for _, r := range s.readers(int(s.within(300, 3000)), share) { // below absolute_per_day
		s.after(pause)
		l := s.send(s.one(hosts), "news@letter.example", r)
		if l.Outcome == smtp.Accepted {
			l.Outcome, l.BackendReply = smtp.Rejected, "554 5.7.1 no advertising"
			l.Reason = new(reply.MessageRefused)
		}
	}
	s.never(hosts...)
}

// freemailHosts: people err.
func freemailHosts(s *sweep) {
	hosts := s.pool(5 + s.rng.IntN(60))
	share, pause := 0.01+0.11*s.rng.Float64(), seconds(s.within(0.5, 40))
	s.note("freemail of %d hosts, %.1f %%, one in %v", len(hosts), 100*share, pause)
	for range int(s.within(400, 5000)) {
		s.after(pause)
		s.send(s.one(hosts), "somebody@freemail.example", s.letter(1+s.rng.IntN(2)*s.rng.IntN(4), share)...)
	}
	s.never(hosts...)
}

// listHost: the same subscribers each time, some of whom are never found.
func listHost(s *sweep) {
	a, n := s.addr(), 20+s.rng.IntN(180)
	share := 0.05 + 0.25*s.rng.Float64() // beyond that whole parts of it look like guesses
	subscribers := s.letter(n, share)
	pause, size := seconds(s.within(600, 86400)), 1+s.rng.IntN(20)
	s.note("list %v of %d, %.0f %% stale, each %v", a, n, 100*share, pause)
	for range 12 {
		s.after(pause)
		for part := range slices.Chunk(subscribers, size) {
			s.after(2 * time.Second)
			s.send(a, fmt.Sprintf("list-bounces+%d@lists.example", s.rng.IntN(1e6)), part...)
		}
	}
	s.never(a)
}

// forwarderHost passes on what comes to old addresses, a few of which never were.
func forwarderHost(s *sweep) {
	a := s.addr()
	targets := s.some(5 + s.rng.IntN(40))
	for range s.rng.IntN(12) {
		targets = append(targets, s.slip())
	}
	pause := seconds(s.within(5, 1200))
	for range 300 {
		s.after(pause)
		s.send(a, "anybody@anywhere.example", targets[s.rng.IntN(len(targets))])
	}
	s.never(a)
}

// backscatter: bounces of what others forged, of a few big hosts and many small.
func backscatter(s *sweep) {
	small := 25 + s.rng.IntN(400)
	big := s.pool(1 + s.rng.IntN(3))
	d, names := s.domain(), 1+s.rng.IntN(4000)
	pause := seconds(s.within(0.5, 6))
	bursts := min(3000, int(4*3600/pause.Seconds()))
	for i := range bursts {
		s.after(pause)
		a := netip.AddrFrom4([4]byte{byte(200 + i%small%19), 80, byte(i % small), byte(1 + i%small/256)})
		if i > bursts/10 && s.rng.IntN(8) == 0 {
			a = s.one(big)
		} else {
			s.never(a)
		}
		s.probe(a, "", bad(fmt.Sprintf("forged%d@%s", s.rng.IntN(names), d))...)
	}
	s.never(big...)
}

// calloutHosts ask for whom they have mail: one, one and the postmaster, one that
// cannot exist and one, in sessions of one or many; up to 48 an hour.
func calloutHosts(s *sweep) {
	hosts := s.pool(1 + s.rng.IntN(3))
	share, shape := s.rng.Float64(), s.rng.IntN(4)
	pause := seconds(3600 / s.within(2, 45))
	s.note("callouts of %d hosts, %.0f %%, shape %d, one in %v", len(hosts), 100*share, shape, pause)
	for range 500 {
		s.after(pause)
		rcpts := s.letter(1, share)
		switch shape {
		case 1:
			rcpts = append(rcpts, good("postmaster@"+s.domains[0])...)
		case 2:
			rcpts = append(good("postmaster@"+s.domains[0]), rcpts...)
		case 3:
			rcpts = append(bad("random-probe@"+s.domains[0]), rcpts...)
		}
		s.probe(s.one(hosts), "", rcpts...)
	}
	s.never(hosts...)
}

// monitors look whether we are there, with one who exists, one who does not, or
// nobody.
func monitors(s *sweep) {
	list := s.pool(1 + s.rng.IntN(4))
	pause := seconds(s.within(60, 1800))
	for i := range 700 {
		s.after(pause)
		a := list[i%len(list)]
		switch i % len(list) {
		case 0:
			s.probe(a, "monitor@watch.example", s.role(), bad("does-not-exist@" + s.domains[0])[0])
		case 1:
			s.probe(a, "monitor@watch.example", bad(fmt.Sprintf("probe%d@%s", i%9, s.domains[0]))...)
		case 2:
			s.probe(a, "monitor@watch.example", s.some(1)...)
		default:
			l := s.line(a, "", false, nil)
			l.MailFrom = nil
			s.lines = append(s.lines, l)
		}
	}
	s.never(list...)
}

// natOffice: people write all day, and a machine of theirs guesses in between.
func natOffice(s *sweep) {
	a := s.addr()
	for range 60 {
		s.after(40 * time.Minute)
		s.send(a, "u@office.example", s.some(1+s.rng.IntN(3))...)
	}
	guess := seconds(s.within(60, 1800))
	write := seconds(s.within(60, 600))
	s.note("nat %v, a guess in %v, mail in %v", a, guess, write)
	from := s.now
	for _, g := range s.guesses(80) {
		s.after(guess)
		s.probe(a, "x@bot.example", g)
	}
	until := s.now
	for s.now = from; s.now.Before(until); {
		s.after(write)
		s.send(a, "u@office.example", s.some(1)...)
	}
	s.never(a)
}

// splitDelivery: a message to many comes in parts, and the parts again.
func splitDelivery(s *sweep) {
	hosts := s.pool(2 + s.rng.IntN(6))
	for range 20 {
		s.after(time.Hour)
		all := s.letter(20+s.rng.IntN(80), 0.08*s.rng.Float64())
		for range 1 + s.rng.IntN(3) {
			for part := range slices.Chunk(all, 1+s.rng.IntN(15)) {
				s.after(3 * time.Second)
				s.send(s.one(hosts), "board@club.example", part...)
			}
			s.after(10 * time.Minute)
		}
	}
	s.never(hosts...)
}

// rolesOffice writes to role addresses alone, and errs now and then.
func rolesOffice(s *sweep) {
	a := s.addr()
	for range 200 {
		s.after(seconds(s.within(600, 7200)))
		if s.rng.IntN(12) == 0 {
			s.send(a, "u@office.example", s.slip())
		}
		s.send(a, "u@office.example", s.role())
	}
	s.never(a)
}

// crmHost: a letter in some minutes for weeks, one in five to one in thirty comes
// back.
func crmHost(s *sweep) {
	a, share := s.addr(), 0.03+0.17*s.rng.Float64()
	pause := seconds(s.within(300, 3600))
	s.note("crm %v, %.0f %%, one in %v", a, 100*share, pause)
	for range 2000 {
		s.after(pause)
		s.send(a, "crm@firm.example", s.letter(1, share)...)
	}
	s.never(a)
}

// askingHost asks before it takes somebody's mail, in its own name, and has little
// to send: one in ten of the many is unknown, or few are asked for at all.
func askingHost(s *sweep) {
	a := s.addr()
	share, n := 0.1*s.rng.Float64(), 900
	if s.rng.IntN(2) == 0 {
		share, n = 0.5*s.rng.Float64(), 120
	}
	pause := seconds(s.within(180, 3600))
	s.note("asking %v, %.0f %% of %d, one in %v", a, 100*share, n, pause)
	s.people = max(s.people, 300)
	for range n {
		s.after(pause)
		s.probe(a, "verify@asking.example", s.letter(1, share)...)
	}
	s.never(a)
}

// staleOffice has an address book of people who left.
func staleOffice(s *sweep) {
	was := s.now
	s.now = s.zero.Add(-30 * time.Hour)
	var gone []said
	for i := range 30 + s.rng.IntN(120) {
		to := fmt.Sprintf("left%d-%x@%s", i, s.rng.IntN(1<<20), s.domain())
		s.now = s.now.Add(20 * time.Second)
		s.send(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%20)}), "p@partner.example", good(to)...)
		gone = append(gone, bad(to)...)
	}
	s.now = was
	a := s.addr()
	s.name(always(a), "u@office.example", s.habit(), seconds(s.within(0.2, 300)), gone)
	s.never(a)
}

// neighbours: people of a hoster's network write a little each, one in eight errs.
func neighbours(s *sweep) {
	hosts := s.pool(30 + s.rng.IntN(100))
	pause := seconds(s.within(5, 120))
	for _, a := range hosts {
		s.after(pause)
		s.send(a, "u@site.example", s.some(1)...)
		if s.rng.IntN(8) == 0 {
			s.send(a, "u@site.example", s.slip())
		}
		for range int(math.Floor(s.within(1, 5))) {
			s.after(pause)
			s.send(a, "u@site.example", s.some(1)...)
		}
	}
	s.never(hosts...)
}

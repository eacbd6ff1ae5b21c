package replay_test

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// prober asks after people who exist with his guesses, and never sends anything.
func prober(s *sweep) {
	a, pause := s.addr(), seconds(s.within(1800, 4*3600))
	acquainted := 1 + s.rng.IntN(60)
	known := s.some(acquainted)
	ratio := s.rng.Float64() * 2
	if s.rng.IntN(2) == 0 {
		known, ratio = []said{s.role()}, s.rng.Float64()*4
	}
	s.note("prober %v, a guess in %v, %d known, %.1f a guess", a, pause, acquainted, ratio)
	for _, g := range s.guesses(420) {
		s.after(pause)
		rcpts := []said{g}
		for n := s.rng.Float64() * 2 * ratio; n >= 1; n-- {
			rcpts = append(rcpts, known[s.rng.IntN(len(known))])
		}
		if s.rng.IntN(2) == 0 {
			slices.Reverse(rcpts)
		}
		s.probe(a, "x@probe.example", rcpts...)
	}
	s.truth.Banned[a] = 200 + int(24*time.Hour/pause) + 10
}

// junkPrelude sends one message to a role address, and guesses when that is some
// hours ago.
func junkPrelude(s *sweep) {
	a := s.addr()
	for range 1 + s.rng.IntN(3) {
		s.send(a, "x@junk.example", s.role())
		s.after(5 * time.Minute)
	}
	s.after(seconds(s.within(7200, 86400)))
	s.name(always(a), "x@junk.example", s.habit(), seconds(s.within(0.2, 60)), s.guesses(150))
	s.truth.Banned[a] = 25
}

// junkRoles sends a message to a role address with every few guesses.
func junkRoles(s *sweep) {
	a, every := s.addr(), 1+s.rng.IntN(5)
	pause := seconds(s.within(1800, 4*3600))
	s.note("roles %v, a guess in %v, mail with every %d", a, pause, every)
	for i, g := range s.guesses(300) {
		s.after(pause)
		if i%every == 0 {
			s.send(a, "x@junk.example", g, s.role())
		} else {
			s.probe(a, "x@junk.example", g)
		}
	}
	s.truth.Banned[a] = 200 + int(24*time.Hour/pause) + 10
}

// fastMixer names up to a dozen people who exist.
func fastMixer(s *sweep) {
	a := s.addr()
	known := s.some(s.rng.IntN(12))
	rcpts := append(known, s.guesses(130)...)
	if s.rng.IntN(2) == 0 {
		s.rng.Shuffle(60, func(i, j int) { rcpts[i], rcpts[j] = rcpts[j], rcpts[i] })
	}
	h := s.habit()
	h.message = false
	s.name(always(a), "x@fast.example", h, seconds(s.within(0.1, 25)), rcpts)
	s.truth.Banned[a] = 75 // at 80 %, should all those whom he knows come first
}

// slowPlain names nobody else.
func slowPlain(s *sweep) {
	a, pause := s.addr(), seconds(s.within(60, 5*3600))
	s.note("slow %v, a guess in %v", a, pause)
	s.name(always(a), "x@slow.example", habit{1, 1, s.rng.IntN(2) == 0}, pause, s.guesses(260))
	s.truth.Banned[a] = 200
}

// rotor has each guess come from another address of an IPv6 prefix.
func rotor(s *sweep) {
	bits := []int{48, 56, 64}[s.rng.IntN(3)]
	p := s.addr6(32, netip.MustParseAddr("2a05:db8::"))
	var used []netip.Addr
	next := func(int) netip.Addr { used = append(used, s.addr6(bits, p)); return used[len(used)-1] }
	s.name(next, "x@rotor.example", habit{1, 1, false}, seconds(s.within(0.2, 100)), s.guesses(280))
	for _, a := range used[60:] {
		s.truth.Banned[a] = 40
	}
}

// shoes are the hosts of a /24 that guess in turn, some of what they name exists.
func shoes(s *sweep) {
	b, hosts := s.addr4().As4(), 10+s.rng.IntN(150)
	share := 0.9 + 0.1*s.rng.Float64()
	next := func(i int) netip.Addr { b[3] = byte(1 + i%hosts); return netip.AddrFrom4(b) }
	rcpts := s.mixed(hosts*12, share)
	s.name(next, "x@shoes.example", habit{1, 1, false}, seconds(s.within(0.2, 60)), rcpts)
	for i := range hosts {
		s.truth.Banned[next(i)] = 13
	}
}

// drawnBotnet is hundreds or thousands of addresses with few guesses each.
func drawnBotnet(s *sweep) {
	bots, each := 600+s.rng.IntN(2400), 1+s.rng.IntN(4)
	span := s.within(600, 20000)
	words := int(s.within(50, 1e6))
	d := s.domain()
	s.note("botnet of %d with %d each in %.0f s, %d words", bots, each, span, words)
	for i := range bots {
		s.after(seconds(span / float64(bots)))
		a := netip.AddrFrom4([4]byte{byte(130 + i%40), byte(s.rng.IntN(256)), byte(i), byte(1 + i%250)})
		var rcpts []said
		for range each {
			rcpts = append(rcpts, bad(fmt.Sprintf("bot%d@%s", s.rng.IntN(words), d))...)
		}
		s.probe(a, "u@bots.example", rcpts...)
	}
	s.truth.Stopped[netip.MustParsePrefix("128.0.0.0/2")] = 0.8
}

// datesOfTrust sends much mail on three dates that are little more than a day,
// and is no more trusted for it than another.
func datesOfTrust(s *sweep) {
	a := s.addr()
	midnight := s.zero.Truncate(24 * time.Hour).Add(24 * time.Hour)
	for _, at := range []time.Duration{-2 * time.Minute, 8 * time.Hour, 24*time.Hour + 2*time.Minute} {
		s.now = midnight.Add(at)
		for range 8 {
			s.now = s.now.Add(10 * time.Second)
			s.send(a, "x@dates.example", s.some(1)...)
		}
	}
	s.after(time.Hour)
	s.name(always(a), "x@dates.example", habit{1, 3, false}, seconds(s.within(0.2, 20)), s.guesses(600))
	s.truth.Banned[a] = 500 // known, at 95 % of what he ever named
}

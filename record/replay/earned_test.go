package replay_test

import "time"

// These pairs differ in what was earned: by mail that came, or by naming who
// exists.

// A guess in three hours, and with each somebody who exists: nothing comes of it,
// or a message does.
func pairAsks(w *wild, attacker bool) {
	a, to := w.addr(), good("postmaster@"+w.domains[0])
	if !attacker {
		to = good(w.known())
	}
	for _, g := range w.guesses(400) {
		w.after(3 * time.Hour)
		w.lines = append(w.lines, w.line(a, "x@slow.example", !attacker, []said{g, to[0]}))
	}
	w.verdict(attacker, a, 215)
}

// The same with two of thirty acquaintances each time.
func pairAsksMany(w *wild, attacker bool) {
	a := w.addr()
	w.people = 30
	for _, g := range w.guesses(400) {
		w.after(2 * time.Hour)
		w.lines = append(w.lines, w.line(a, "x@slow.example", !attacker, []said{g, good(w.known())[0], good(w.known())[0]}))
	}
	w.verdict(attacker, a, 220)
}

// A message with each guess, of one in an hour: to the postmaster, or to people.
func pairJunk(w *wild, attacker bool) {
	a := w.addr()
	for _, g := range w.guesses(400) {
		w.after(time.Hour)
		to := good(w.known())[0]
		if attacker {
			to = good("postmaster@" + w.domains[0])[0]
		}
		w.send(a, "x@junk.example", g, to)
	}
	w.verdict(attacker, a, 235)
}

// Sixty guesses in an hour, a day after the first message: which went to the
// postmaster, or to a person as those meanwhile do.
func pairFirst(w *wild, attacker bool) {
	a := w.addr4()
	writes := func() said {
		if attacker {
			return good("postmaster@" + w.domains[0])[0]
		}
		return good(w.known())[0]
	}
	w.send(a, "u@firm.example", writes())
	w.after(24 * time.Hour)
	for i, g := range w.guesses(60) {
		w.after(time.Minute)
		w.probe(a, "x@bot.example", g)
		if i%6 == 0 {
			w.send(a, "u@firm.example", writes())
		}
	}
	w.verdict(attacker, a, 25)
}

// Some hundred messages, then 110 guesses in two minutes:
// the messages came within two minutes more than a day, over midnight, or within
// three. Who is trusted then is slowed, and his mail is not lost.
func pairDates(w *wild, attacker bool) {
	a := w.addr4()
	w.people = 2000
	midnight := w.begin.Truncate(24 * time.Hour).Add(24 * time.Hour)
	days := []time.Duration{-2 * time.Minute, 12 * time.Hour, 24*time.Hour + time.Minute}
	if !attacker {
		days = []time.Duration{-2 * time.Minute, 24 * time.Hour, 48 * time.Hour}
	}
	for _, at := range days {
		w.now = midnight.Add(at)
		for range 160 { // so many that the guesses are few among them
			w.now = w.now.Add(time.Second)
			w.send(a, "u@firm.example", good(w.known())...)
		}
	}
	w.now = midnight.Add(50 * time.Hour)
	w.name(always(a), "u@firm.example", habit{1, 1, false}, seconds(1), w.guesses(110))
	w.verdict(attacker, a, 105)
}

package replay_test

import (
	"fmt"
	"net/netip"
	"time"

	"mailweir/smtp"
)

// wilds are the drawn scenes.
var wilds = map[string]func(w *wild){
	"guesser":        wildGuesser,
	"slow-guesser":   wildSlowGuesser,
	"mixer":          wildMixer,
	"botnet":         wildBotnet,
	"rotating-64":    func(w *wild) { wildRotating(w, 64) },
	"rotating-56":    func(w *wild) { wildRotating(w, 56) },
	"rotating-48":    func(w *wild) { wildRotating(w, 48) },
	"snowshoe":       wildSnowshoe,
	"null-guesser":   wildNullGuesser,
	"repeater":       wildRepeater,
	"stale-list":     wildStaleList,
	"part-stale":     wildPartStale,
	"removed":        wildRemoved,
	"freemail":       wildFreemail,
	"callouts":       wildCallouts,
	"wave":           wildWave,
	"nat":            wildNAT,
	"monitor":        wildMonitor,
	"forwarder":      wildForwarder,
	"broken":         wildBroken,
	"typos":          wildTypos,
	"unsure-oracle":  wildUnsure,
	"below-the-hour": wildBelow,
	"shared-64":      wildShared64,
}

// Nothing but guesses, one in two seconds to one in two minutes.
func wildGuesser(w *wild) {
	a := w.addr()
	w.name(always(a), "x@bot.example", w.habit(), seconds(w.between(0.05, 120)), w.guesses(60))
	w.truth.Banned[a] = 25
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// One guess in four minutes to one in three hours.
func wildSlowGuesser(w *wild) {
	a := w.addr()
	pause := seconds(w.between(240, 3*3600))
	w.name(always(a), "x@bot.example", habit{1, 1, false}, pause, w.guesses(260))
	switch {
	case pause < 20*time.Minute:
		w.truth.Banned[a] = 50
	case pause < 75*time.Minute:
		w.truth.Banned[a] = 100
	default:
		w.truth.Banned[a] = 200
	}
}

// 35 to 75 % guesses, the others known, with messages or without, ten in a
// second to one a minute.
func wildMixer(w *wild) {
	a := w.addr()
	h := w.habit()
	h.perSession = 1
	w.name(always(a), "x@mix.example", h, seconds(w.between(0.1, 60)), w.mixed(1200, 0.35+0.4*w.rng.Float64()))
	w.truth.Banned[a] = 300
}

// 3,000 addresses with two guesses each within minutes or a day.
func wildBotnet(w *wild) {
	span := w.between(300, 86400)
	const bots = 3000
	d := w.domain()
	for i := range bots {
		w.after(seconds(span / bots))
		w.line4(netip.AddrFrom4([4]byte{byte(11 + w.rng.IntN(80)), byte(i >> 8), byte(i), 9}), d, i)
	}
	w.truth.Stopped[netip.MustParsePrefix("0.0.0.0/1")] = 0.9
	if span > 12*3600 {
		w.truth.Stopped[netip.MustParsePrefix("0.0.0.0/1")] = 0.85
	}
}

func (w *wild) line4(a netip.Addr, d string, i int) {
	w.send(a, "u@bot.example", bad(fmt.Sprintf("two%d@%s", 2*i, d), fmt.Sprintf("two%d@%s", 2*i+1, d))...)
}

// Each guess from another address of a prefix.
func wildRotating(w *wild, bits int) {
	p := w.addr6(32, netip.MustParseAddr("2a01:db8::"))
	var used []netip.Addr
	h := w.habit()
	h.perMail, h.perSession = 1, 1
	next := func(int) netip.Addr {
		a := w.addr6(bits, p)
		used = append(used, a)
		return a
	}
	w.name(next, "x@six.example", h, seconds(w.between(0.1, 120)), w.guesses(300))
	by := 40
	if bits == 64 {
		by = 25
	}
	for _, a := range used[by:] {
		w.truth.Banned[a] = 4 // its /64 may have guessed before the network was found out
		if bits == 64 {
			w.truth.Banned[a] = 25
		}
	}
}

// All of a /24 guesses in turn.
func wildSnowshoe(w *wild) {
	b := w.addr4().As4()
	hosts := 10 + w.rng.IntN(200)
	next := func(i int) netip.Addr { b[3] = byte(1 + i%hosts); return netip.AddrFrom4(b) }
	h := w.habit()
	h.perMail, h.perSession = 1+w.rng.IntN(2), 1
	w.name(next, "x@snow.example", h, seconds(w.between(0.2, 120)), w.guesses(hosts*8))
	for i := range hosts {
		w.truth.Banned[next(i)] = 7
	}
}

// The null sender guesses, 210 to 2,000 an hour.
func wildNullGuesser(w *wild) {
	a := w.addr()
	w.name(always(a), "", habit{1, 1 + w.rng.IntN(4), false}, seconds(3600/w.between(230, 2000)), w.guesses(420))
	w.truth.Banned[a] = 200
}

// Banned, and back when the ban is over: twice as long then.
func wildRepeater(w *wild) {
	a := w.addr()
	h := w.habit()
	for range 3 {
		w.name(always(a), "x@bot.example", h, time.Second, w.guesses(60))
		w.now = w.now.Add(7 * 24 * time.Hour)
	}
	w.truth.Banned[a] = 25
}

// A list of mailboxes that are gone, at any rate, from one or several sources.
func wildStaleList(w *wild) {
	list := w.once(40 + w.rng.IntN(300))
	w.now = w.now.Add(seconds(w.between(86400, 30*86400)))
	a := w.addr()
	w.name(always(a), "news@list.example", w.habit(), seconds(w.between(0.1, 600)), list)
	w.never(a)
}

func (w *wild) never(a ...netip.Addr) { w.truth.Never = append(w.truth.Never, a...) }

// A bought-in list: most good, a part gone, few that never were.
func wildPartStale(w *wild) {
	list := w.once(60)
	list = append(list, w.guesses(10)...)
	for range 140 {
		list = append(list, good(w.known())...)
	}
	w.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	a := w.addr()
	w.name(always(a), "news@list.example", w.habit(), seconds(w.between(0.1, 600)), list)
	w.never(a)
}

// Many sources write to mailboxes that were removed, and to others.
func wildRemoved(w *wild) {
	gone := w.once(30)
	for i := range 12 {
		a := w.addr()
		var rcpts []said
		for range 25 {
			if w.rng.IntN(2) == 0 {
				rcpts = append(rcpts, gone[w.rng.IntN(len(gone))])
			} else {
				rcpts = append(rcpts, good(w.known())...)
			}
		}
		w.now = w.begin.Add(time.Duration(i) * time.Minute)
		w.name(always(a), "x@firm.example", w.habit(), seconds(w.between(1, 600)), rcpts)
		w.never(a)
	}
}

// A pool of hosts whose users err now and then.
func wildFreemail(w *wild) {
	var pool []netip.Addr
	b := w.addr4().As4()
	for i := range 20 + w.rng.IntN(60) {
		b[2], b[3] = b[2]+byte(i%2), byte(10+i)
		pool = append(pool, netip.AddrFrom4(b))
	}
	h := w.habit()
	h.message = true
	w.name(func(int) netip.Addr { return pool[w.rng.IntN(len(pool))] }, "u@freemail.example", h, seconds(w.between(1, 60)), w.mixed(3000, 0.02+0.13*w.rng.Float64()))
	w.never(pool...)
}

// Callouts: the null sender, RCPT, QUIT.
func wildCallouts(w *wild) {
	a := w.addr()
	w.name(always(a), "", habit{1, 1, false}, seconds(3600/w.between(5, 48)), w.mixed(600, 0.3+0.7*w.rng.Float64()))
	w.never(a)
}

// Somebody forges our senders, and the bounces come.
func wildWave(w *wild) {
	big := w.addr()
	hosts := 15 + w.rng.IntN(300)
	d := w.domain()
	for i := range 4000 {
		w.after(seconds(2))
		a := netip.AddrFrom4([4]byte{byte(100 + i%hosts%20), 70, byte(i % hosts), 25})
		if i%3 == 0 && i > 60 {
			a = big
		} else {
			w.never(a)
		}
		w.probe(a, "", bad(fmt.Sprintf("forged%d@%s", w.rng.IntN(3000), d))...)
	}
	w.never(big)
}

// An office of good users, and an infected machine among them.
func wildNAT(w *wild) {
	a := w.addr4()
	for range 60 {
		w.after(40 * time.Minute)
		w.send(a, "u@firm.example", good(w.known())...)
	}
	bot := w.now
	h := w.habit()
	h.message = false
	w.name(always(a), "x@bot.example", h, seconds(w.between(2, 120)), w.guesses(90+w.rng.IntN(150)))
	end := w.now
	for w.now = bot; w.now.Before(end); {
		w.after(3 * time.Minute)
		w.send(a, "u@firm.example", good(w.known())...)
	}
	w.now = bot
	for range 8 {
		w.after(time.Minute)
		w.send(a, "u@firm.example", good(w.known(), w.known(), w.known())...)
	}
	w.never(a)
}

// The same recipient that does not exist, or EHLO and QUIT, for weeks.
func wildMonitor(w *wild) {
	a, b := w.addr(), w.addr()
	pause := seconds(w.between(60, 3600))
	for i := range 800 {
		w.after(pause)
		w.probe(a, "monitor@watch.example", bad(fmt.Sprintf("probe%d@%s", i%3, w.domains[0]))...)
		l := w.line(b, "", false, nil)
		l.MailFrom = nil
		w.lines = append(w.lines, l)
	}
	w.never(a, b)
}

// Forwards what comes to old addresses: half of it to mailboxes that are gone.
func wildForwarder(w *wild) {
	gone := w.once(20)
	a := w.addr()
	h := w.habit()
	h.message = true
	list := w.mixed(400, 0.03)
	for i := range list {
		if w.rng.IntN(2) == 0 {
			list[i] = gone[w.rng.IntN(len(gone))]
		}
	}
	w.name(always(a), "anybody@anywhere.example", h, seconds(w.between(5, 600)), list)
	w.never(a)
}

// From one moment on the directory denies everybody.
func wildBroken(w *wild) {
	w.domains = w.domains[:1]
	for i := range 60 {
		w.after(2 * time.Minute)
		w.send(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%20)}), "p@partner.example", good(w.known())...)
	}
	for range 300 {
		w.after(seconds(5))
		a := w.addr()
		to := w.known()
		if w.rng.IntN(3) == 0 {
			to = fmt.Sprintf("quiet%d@%s", w.rng.IntN(500), w.domains[0])
		}
		w.send(a, "x@firm.example", bad(to)...)
		w.never(a)
	}
	big := w.addr()
	for i := range 100 {
		w.after(seconds(5))
		w.send(big, "x@firm.example", bad(fmt.Sprintf("quiet%d@%s", i, w.domains[0]))...)
	}
	w.never(big)
	w.begin = w.now // nobody is served meanwhile
	w.truth.Alarms = []string{"directory_broken"}
}

// R-BX-14: five typos at most, of less than 30 %, in bursts over days.
func wildTypos(w *wild) {
	a := w.addr()
	h := w.habit()
	for range 6 {
		rcpts := w.mixed(18, 0)
		for i, g := range w.guesses(1 + w.rng.IntN(5)) {
			rcpts[i*3] = g
		}
		w.name(always(a), "u@firm.example", h, seconds(w.between(0.5, 60)), rcpts)
		w.now = w.now.Add(20 * time.Hour)
	}
	w.never(a)
}

// Nobody can say who exists.
func wildUnsure(w *wild) {
	a := w.addr()
	state := []smtp.OracleState{smtp.Any, smtp.Unavailable, ""}[w.rng.IntN(3)]
	list := w.guesses(400)
	for i := range list {
		list[i].state = state
	}
	w.name(always(a), "x@firm.example", w.habit(), time.Second, list)
	w.never(a)
}

// A little below what convicts: 20 in an hour and 40 in a day.
func wildBelow(w *wild) {
	a := w.addr()
	for range 2 {
		w.name(always(a), "x@firm.example", habit{1, 1, false}, seconds(60), w.guesses(20))
		w.now = w.now.Add(3 * time.Hour)
	}
	w.never(a)
}

// A hoster's /64 with a good neighbour and a guesser.
func wildShared64(w *wild) {
	p := w.addr6(32, netip.MustParseAddr("2a02:db8::"))
	good64, bad64 := w.addr6(64, p), w.addr6(64, p)
	for range 20 {
		w.after(time.Hour)
		w.send(good64, "u@firm.example", good(w.known())...)
	}
	w.name(always(bad64), "x@bot.example", w.habit(), time.Second, w.guesses(60))
	w.truth.Banned[bad64] = 25
	w.never(good64)
}

package replay_test

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"mailweir/record"
)

// A sweep draws whole days: several actors at once, of each some kind that is
// drawn, with every number of it drawn. WEIR_SWEEP is how many days are drawn, in
// place of a few, and WEIR_SWEEP_SEED the first of their seeds.
type sweep struct {
	*wild
	zero time.Time
	log  []string // who is there, for who has to look at it
}

type actor func(s *sweep)

// guessers and honest are who there is.
var (
	guessing = map[string]actor{
		"prober": prober, "junk": junkPrelude, "roles": junkRoles, "fast": fastMixer, "slow": slowPlain, "rotor": rotor, "shoes": shoes,
		"botnet": drawnBotnet, "dates": datesOfTrust,
	}
	honest = map[string]actor{
		"newsletter": newsletterHosts, "refused": refusedNewsletter, "freemail": freemailHosts, "list": listHost, "forwarder": forwarderHost,
		"backscatter": backscatter, "callouts": calloutHosts, "monitor": monitors, "nat": natOffice, "split": splitDelivery,
		"roles": rolesOffice, "crm": crmHost, "asking": askingHost, "stale": staleOffice, "neighbours": neighbours,
	}
)

func TestSweep(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	days, first := 40, 880_000
	if n, err := strconv.Atoi(os.Getenv("WEIR_SWEEP")); err == nil {
		days = n
	}
	if n, err := strconv.Atoi(os.Getenv("WEIR_SWEEP_SEED")); err == nil {
		first = n
	}
	for i := range days {
		t.Run(strconv.Itoa(first+i), func(t *testing.T) { t.Parallel(); sweepDay(t, uint64(first+i)) })
	}
}

func sweepDay(t *testing.T, seed uint64) {
	w := &wild{stage: newStage(seed), people: 40 + int(seed%7)*60}
	for i := range 1 + w.rng.IntN(3) {
		w.domains = append(w.domains, fmt.Sprintf("city%d.example", i))
	}
	w.background(48 * time.Hour)
	w.begin = w.now
	s := &sweep{wild: w, zero: w.now}
	s.draw("honest", honest, 1+s.rng.IntN(3))
	s.draw("guessing", guessing, s.rng.IntN(3))
	s.meanwhile(s.end())
	for i := range s.lines {
		l := &s.lines[i]
		if l.HELO == "mail.sender.example" {
			l.HELO = fmt.Sprintf("mail%x.example", l.Peer.As16())
		}
		l.RDNS = &record.RDNS{Name: l.HELO, State: "confirmed", Class: "custom"}
		l.ASN = 64500 + uint32(l.Peer.As16()[12])%7
	}
	says, _ := play(t, s.lines, s.truth, nil)
	hold(t, s.lines, s.truth, says)
	s.spared(t, says)
	if t.Failed() {
		t.Logf("there were %v, %d lines", s.log, len(s.lines))
	}
}

// draw has n actors of a kind begin within the same day.
func (s *sweep) draw(what string, of map[string]actor, n int) {
	names := slices.Sorted(maps.Keys(of))
	for range n {
		name := names[s.rng.IntN(len(names))]
		s.now = s.zero.Add(time.Duration(s.rng.Int64N(int64(12 * time.Hour))))
		s.log = append(s.log, what+" "+name)
		of[name](s)
	}
}

// within draws a number, each size as likely as any other.
func (s *sweep) within(low, high float64) float64 {
	return low * math.Pow(high/low, s.rng.Float64())
}

func (s *sweep) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

// some draws n people, each of them perhaps more than once.
func (s *sweep) some(n int) (list []said) {
	for range n {
		list = append(list, good(s.known())...)
	}
	return list
}

// slip is an address that never was, of somebody's hand.
func (s *sweep) slip() said {
	return bad(fmt.Sprintf("slip%x@%s", s.rng.Uint64(), s.domain()))[0]
}

// letter is a message to n recipients of which a share is unknown.
func (s *sweep) letter(n int, share float64) (list []said) {
	for range n {
		if s.rng.Float64() < share {
			list = append(list, s.slip())
		} else {
			list = append(list, good(s.known())...)
		}
	}
	return list
}

func (s *sweep) role() said {
	roles := []string{"postmaster", "abuse", "info", "webmaster", "sales"}
	return good(roles[s.rng.IntN(len(roles))] + "@" + s.domains[0])[0]
}

// pool are n hosts, of a /24, of many networks, or of IPv6.
func (s *sweep) pool(n int) (list []netip.Addr) {
	b, six := s.addr4().As4(), s.addr6(32, netip.MustParseAddr("2001:db8::"))
	how := s.rng.IntN(3)
	for i := range n {
		switch how {
		case 0:
			b[3] = byte(2 + i)
			list = append(list, netip.AddrFrom4(b))
		case 1:
			list = append(list, s.addr4())
		default:
			a := six.As16()
			a[7], a[15] = byte(i), 25
			list = append(list, netip.AddrFrom16(a))
		}
	}
	return list
}

func (s *sweep) one(list []netip.Addr) netip.Addr { return list[s.rng.IntN(len(list))] }

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// attackers have a /24 each, so that no ban is widened to a neighbour.
var attackers = netip.MustParsePrefix("100.0.0.0/10")

func attackerAt(n int) netip.Addr { return nth(attackers, n<<8|66) }

// BenchmarkVerdictToDrop is the whole way of a ban through the product: from
// the verdict in the mail process, with the client's reply not yet written, to
// the first packet that the packet program drops, while other clients have
// their mail relayed. There is no peer that decides and drops: fail2ban is
// beside ours in BenchmarkFail2ban.
func BenchmarkVerdictToDrop(b *testing.B) {
	s := newSite(b)
	s.sink(b)
	s.writeRecipients(b)
	attacker := s.Host("attacker", attackers.String())
	s.ours(b, "drop.toml")
	stamp := newStamp(b, s.weir.Binary())

	var took []time.Duration
	var medians []time.Duration
	next := 0
	program := generator(b, s.Lab)
	busy := busyNow()
	var others yield
	for round := range rounds {
		const length = 4 * time.Second
		load := load{
			Target: smtpPort(s.edge), Sources: sources, Round: round,
			Clients: 10, For: length, Pause: 20 * time.Millisecond, Body: 4 << 10,
		}
		var failed error
		done := make(chan struct{})
		go func() {
			defer close(done)
			others, failed = try(b.Context(), s.client, program, load)
		}()
		convicted := map[netip.Addr]time.Duration{}
		for end := time.Now().Add(length - 300*time.Millisecond); time.Now().Before(end); next++ {
			from := attackerAt(next)
			at, err := s.fall(b, attacker, from, stamp)
			if err != nil {
				b.Fatalf("attacker %d: %v", next, err)
			}
			convicted[from] = at
		}
		if <-done; failed != nil {
			b.Fatal(failed)
		}
		mine := s.delays(b, convicted)
		slices.Sort(mine)
		medians = append(medians, mine[len(mine)/2])
		took = append(took, mine...)
	}
	share := busyNow().since(busy)
	slices.Sort(took)
	slices.Sort(medians)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.Logf("%s; processors %.0f %% busy, %d other sessions/s (aim: at most 70 %%)", machine(), 100*share, others.Sessions*int(time.Second)/int(others.Elapsed))
	b.Logf("%d bans in %d rounds, engine xdp, native: from the verdict to the first packet dropped: least %v, p50 %v (of rounds: %v to %v), p99 %v, most %v",
		len(took), rounds, took[0], p50, medians[0], medians[len(medians)-1], p99, took[len(took)-1])
	onTime, _ := slices.BinarySearch(took, tooLate)
	late := len(took) - onTime
	if late > len(took)/2 {
		b.Fatalf("%d of %d attackers were not dropped in time", late, len(took))
	}
	b.Logf("%d of them took 50 ms or more", late)
	b.Logf("in it: up to %v until the attacker's next packet comes", time.Duration(pace))
	b.ReportMetric(float64(p50.Microseconds()), "µs-p50")
	b.ReportMetric(float64(p99.Microseconds()), "µs-p99")
	b.ReportMetric(0, "ns/op")
	results.add("from the verdict to the first packet dropped", fmt.Sprintf("p50 %v, p99 %v", p50.Round(time.Microsecond), p99.Round(time.Microsecond)),
		"none", fmt.Sprintf("aim p50 < 300µs, p99 < 5ms; processors %.0f %% busy", 100*share))
}

// fall has an attacker write to a spamtrap, which convicts at once, and returns
// when the verdict came.
func (s *site) fall(b *testing.B, h *lab.Host, from netip.Addr, stamp *stamp) (time.Duration, error) {
	c, _, err := h.SMTP(patient(b), from, smtpPort(s.edge))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for _, line := range []string{"EHLO pool.isp.example", "MAIL FROM:<info@sender.example>"} {
		if r, err := c.Cmd("%s", line); err != nil || r.Code != 250 {
			return 0, fmt.Errorf("%s: %v %w", line, r, err)
		}
	}
	p := startPacer(b, h, from, smtpPort(s.edge))
	defer p.end()
	// The session is reset behind the reply, which may overtake it.
	if r, err := c.Cmd("RCPT TO:<trap@old.example.com>"); err == nil && r.Code != 550 {
		return 0, fmt.Errorf("the trap was answered %v", r)
	}
	if !p.more() { // the reply comes after the ban, so that one of these is dropped
		return 0, errors.New("no packet can be sent")
	}
	return stamp.take()
}

// tooLate stands for the time of an attacker who was not dropped while his
// pacer ran: the mail process had its answer after 50 ms without one of guard,
// as happens where processors are wanting. It is a lower bound.
const tooLate = 50 * time.Millisecond

// delays is how long after its verdict each attacker's first packet was dropped.
func (s *site) delays(b *testing.B, convicted map[netip.Addr]time.Duration) []time.Duration {
	b.Helper()
	drops := s.firstDrops(b)
	var all []time.Duration
	for from, at := range convicted {
		d := tooLate
		if drop, ok := drops[from]; ok {
			d = drop - at
		}
		if d <= 0 {
			b.Fatalf("%v was dropped %v before the verdict", from, -d)
		}
		all = append(all, d)
	}
	return all
}

// busy is the time that the machine's processors have worked, and all time.
type busy struct{ work, all uint64 }

// busyNow reads proc_stat(5): user, nice, system, idle, iowait, irq, softirq,
// steal.
func busyNow() busy {
	var t busy
	line, _, _ := strings.Cut(readFile("/proc/stat"), "\n")
	for i, word := range strings.Fields(line)[1:9] {
		n, _ := strconv.ParseUint(word, 10, 64)
		if t.all += n; i != 3 && i != 4 {
			t.work += n
		}
	}
	return t
}

func (t busy) since(then busy) float64 {
	return float64(t.work-then.work) / float64(t.all-then.all)
}

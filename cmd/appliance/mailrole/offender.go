package mailrole

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// offender files the offences of smtp with guard, and is the gate that refuses
// the convicted for as long as the kernel does not: where no engine works, or
// guard does not answer.
type offender struct {
	guard  filer
	widest func(netip.Addr) int
	now    func() time.Time
	alarms record.Alarms
	lane   atomic.Bool           // a banned source may come to hear why
	alone  atomic.Bool           // no engine holds the kernel
	took   func(seconds float64) // from an offence until the kernel drops; may be nil

	mu       sync.Mutex
	standing map[netip.Prefix]smtp.Standing
	away     error     // why guard did not take the last offence
	since    time.Time // of away
}

// filer is guard as the mail role sees it: *guard.Client.
type filer interface {
	OffendNetwork(ctx context.Context, conn *net.TCPConn, reason firewall.Reason, r ref.Ref, widest int) (guard.Result, error)
	Standing(ctx context.Context, a netip.Addr) (firewall.Ban, bool, error)
}

const (
	// maxStanding bounds the gate's memory: it stands in for the kernel for
	// minutes, not for good.
	maxStanding = 100_000
	// standIn is how long the gate refuses a source that the kernel does not
	// drop. It is short, since the gate hears of no unban: who goes on offending
	// stands again.
	standIn = 10 * time.Minute
)

// alarmOffences stands while the kernel misses who was convicted last.
const alarmOffences = "offences"

// newOffender takes what knows the neighbours: the bits of the widest prefix
// around a source in which nobody good is known.
func newOffender(g filer, widest func(netip.Addr) int, now func() time.Time, alarms record.Alarms) *offender {
	return &offender{guard: g, widest: widest, now: now, alarms: alarms, standing: map[netip.Prefix]smtp.Standing{}}
}

// Offend implements smtp.Offender. An error means that the kernel does not drop
// the source: somebody protects it, or guard is away.
func (o *offender) Offend(ctx context.Context, conn *net.TCPConn, why reply.Reason, r ref.Ref) error {
	reason, err := firewall.ParseReason(string(why))
	if err != nil {
		return err
	}
	began := o.now()
	res, err := o.guard.OffendNetwork(ctx, conn, reason, r, o.widest(peerAddr(conn)))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away = err; err != nil {
		o.since = o.now()
		o.alarms.Alarm(alarmOffences, fmt.Sprintf("guard did not take the last offence (%v): the convicted are refused at the gate meanwhile, see whether guard runs", err))
		o.stand(peerPrefix(conn), r)
		return fmt.Errorf("file the offence: %w", err)
	}
	o.alarms.Clear(alarmOffences, "guard takes offences again")
	if res.Outcome == guard.Banned && o.took != nil {
		o.took(o.now().Sub(began).Seconds())
	}
	switch res.Outcome {
	case guard.Banned, guard.Already:
		delete(o.standing, res.Ban.Prefix)
		return nil
	case guard.Pending:
		o.stand(res.Ban.Prefix, res.Ban.Ref)
		return nil
	case guard.Vetoed:
		return fmt.Errorf("%v is protected: it is %s: %w", conn.RemoteAddr(), res.Guard, smtp.ErrSpared)
	case guard.Busy:
		o.stand(peerPrefix(conn), r)
	}
	return fmt.Errorf("guard does not take the offence: %v", res.Outcome)
}

// stand remembers one that the gate refuses. The caller holds the lock.
func (o *offender) stand(p netip.Prefix, r ref.Ref) {
	if !p.IsValid() {
		return
	}
	if len(o.standing) >= maxStanding {
		for old := range o.standing { // any: all of them are bound to end soon
			delete(o.standing, old)
			break
		}
	}
	o.standing[p] = smtp.Standing{Until: o.now().Add(standIn), Ref: r}
}

// bansOf is how long the prefixes of bans of an address can be.
func bansOf(addr netip.Addr) []int {
	if addr.Is4() {
		return []int{32, 24}
	}
	return []int{128, 64, 56, 48}
}

// Banned implements smtp.Gate. Guard is asked only where the kernel lets banned
// sources in: a gate that guard keeps waiting lets everybody in.
func (o *offender) Banned(addr netip.Addr) (smtp.Standing, bool) {
	explain := o.lane.Load()
	if s, ok := o.stands(addr); ok {
		s.Explain = explain
		return s, true
	}
	if !explain && !o.alone.Load() {
		return smtp.Standing{}, false
	}
	b, banned, err := o.guard.Standing(context.Background(), addr)
	if err != nil || !banned {
		return smtp.Standing{}, false
	}
	return smtp.Standing{Until: b.Until, Ref: b.Ref, Explain: explain}, true
}

// stands looks at those whom the kernel missed.
func (o *offender) stands(addr netip.Addr) (smtp.Standing, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, bits := range bansOf(addr) {
		p, _ := addr.Prefix(bits)
		s, ok := o.standing[p]
		if !ok {
			continue
		}
		if s.Until.After(o.now()) {
			return s, true
		}
		delete(o.standing, p)
	}
	return smtp.Standing{}, false
}

// calm ends the alarm when nobody stands at the gate any more for it.
func (o *offender) calm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away != nil && o.now().Sub(o.since) > standIn {
		o.away = nil
		o.alarms.Clear(alarmOffences, "there was no further offence")
	}
}

func peerAddr(conn *net.TCPConn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return a.AddrPort().Addr().Unmap()
}

// peerPrefix is what a ban of the connection's peer would hit.
func peerPrefix(conn *net.TCPConn) netip.Prefix {
	addr := peerAddr(conn)
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	return peerRange(addr)
}

// peerRange is what counts as one source: an IPv4 address, or an IPv6 /64.
func peerRange(addr netip.Addr) netip.Prefix {
	if addr.Is6() {
		return slash64(addr)
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// slash64 is the /64 of an IPv6 address; no prefix for an IPv4 one.
func slash64(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, 64).Masked()
}

// Package nft enforces bans with nftables: one table, inet mailweir, which
// drops at prerouting, before connection tracking.
//
// It does what the packet program of package bpf does, with the kernel's own
// parser, and is usable alone, where XDP cannot run:
//
//	prerouting   TCP to a port in @ports, and TCP whose port cannot be read,
//	             goes on to protected; everything else is accepted
//	protected    link-local sources and @allow4, @allow6 are accepted; a source
//	             in one of the ban sets goes on to strike
//	strike       counts and drops; in observe counts and accepts
//	denied       the same for who opens a connection from a country or network
//	             that is denied
//	limited      the same for who opens more connections than a source may
//
// Bans are in hash sets with a timeout and a counter for each element: ban4 and
// ban6 hold single addresses, ban4_24, ban6_64 and the like the prefixes of one
// length. The kernel ends a ban by itself, whether or not anything of ours is
// alive; closing a Table leaves the table where it is.
//
// Every change is one transaction of the kernel. Anybody with the right to can
// flush the ruleset; Intact notices.
//
// The process needs CAP_NET_ADMIN, the kernel nf_tables with the inet family.
// About a million bans is what a table should hold; each takes some hundred
// bytes and 2 µs to insert.
package nft

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

var _ firewall.Enforcer = (*Table)(nil)

// maxPrefixes is how many bans there may be of a prefix length at which nobody
// is banned for himself.
const maxPrefixes = 1 << 16

// Options say how a Table works. The zero value is the appliance's.
type Options struct {
	MaxBans int              // of single addresses, IPv6 /64, /56 and /48, each; 1,048,576
	Clock   func() time.Time // time.Now; the clock that Ban.Until is in
}

// size is how many bans a set may hold. The kernel makes its hash table that
// large from the start, 8 to 16 bytes for each.
func (o Options) size(s banSet) int {
	if !s.rare() {
		return o.MaxBans
	}
	return min(maxPrefixes, o.MaxBans)
}

// rare says that nobody is banned so for himself.
func (s banSet) rare() bool {
	return !s.single() && (s.family != 6 || s.bits != 64 && s.bits != 56 && s.bits != 48)
}

// Table is our nftables table. Its methods may be called from several
// goroutines.
type Table struct {
	opt Options

	mu         sync.Mutex
	closed     bool
	sets       map[banSet]bool // that stand
	denied     denied
	rules      firewall.Rules
	configured bool // since Open or Remove
	seen       seen
	log        *socket // of samples; nil: nobody asked yet
	unsampled  bool    // this kernel logs to no group
}

// Open prepares a Table. It changes nothing in the kernel, but finds out
// whether the kernel would let it.
func Open(opt Options) (*Table, error) {
	if opt.MaxBans == 0 {
		opt.MaxBans = 1 << 20
	}
	if opt.MaxBans < 1 || opt.MaxBans > math.MaxInt32 {
		return nil, fmt.Errorf("%d bans at most: out of range", opt.MaxBans)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if _, err := Generation(context.Background()); err != nil {
		return nil, err
	}
	t := &Table{opt: opt}
	return t, t.findSets()
}

// findSets learns which ban sets an earlier process has left.
func (t *Table) findSets() error {
	t.sets = make(map[banSet]bool)
	for _, s := range always {
		t.sets[s] = true
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if stands, err := present(c); err != nil || !stands {
		return err
	}
	list, err := c.GetSets(table)
	if err != nil {
		return explain("list our sets", err)
	}
	for _, s := range list {
		if b, ok := parseSet(s.Name); ok {
			t.sets[b] = true
		}
		if n, ok := numberOf(s.Name); ok {
			t.denied.last = max(t.denied.last, n)
		}
	}
	return nil
}

// connect prepares a connection whose buffers hold a batch of rules with many
// thousand allow entries. It is opened anew for each operation.
func connect() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(16<<20), c.SetWriteBuffer(16<<20))
	}))
}

// present asks whether our table is there.
func present(c *nftables.Conn) (bool, error) {
	list, err := c.ListTablesOfFamily(table.Family)
	if err != nil {
		return false, explain("list tables", err)
	}
	return slices.ContainsFunc(list, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// errGone is what the kernel would say.
var errGone = fmt.Errorf("table inet %s is gone: %w", tableName, unix.ENOENT)

// Configure makes rules the whole truth, and mends the table where somebody
// has changed it. Bans that stand are not touched.
func (t *Table) Configure(ctx context.Context, rules firewall.Rules) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return err
	}
	rules.Ports = slices.Clone(rules.Ports)
	slices.Sort(rules.Ports)
	rules.Ports = slices.Compact(rules.Ports)
	allow := rules.Allow
	rules.Allow = nil
	for _, p := range allow {
		c := firewall.Canonical(p)
		if !c.IsValid() {
			return fmt.Errorf("allow %q: not a prefix of IPv4 or IPv6", p)
		}
		rules.Allow = append(rules.Allow, c)
	}
	next, err := t.nextDenied(ctx, rules)
	if err != nil {
		return err
	}
	former := t.denied
	t.denied = next
	err = t.write(rules, true)
	if err != nil && !t.unsampled && !errors.Is(err, unix.EPERM) {
		t.unsampled = true // nfnetlink_log may be missing: drops are worth more than samples of them
		if t.write(rules, true) == nil {
			err = nil
		} else {
			t.unsampled = false
		}
	}
	if err != nil {
		t.denied = former
		return err
	}
	t.rules, t.configured = rules, true
	return errors.Join(t.dropDenied(), t.remember())
}

// write writes the table in one transaction: with its rules when there are
// any, else only what elements need.
func (t *Table) write(rules firewall.Rules, withRules bool) error {
	c, err := connect()
	if err != nil {
		return err
	}
	sets := order(t.sets)
	if err := t.writeBase(c, sets); err != nil {
		return fmt.Errorf("prepare the table: %w", err)
	}
	if withRules {
		t.writeRules(c, sets, t.denied, rules)
		if err := fillRules(c, rules); err != nil {
			return fmt.Errorf("prepare the rules: %w", err)
		}
	}
	return explain("write table inet "+tableName, c.Flush())
}

func (t *Table) usable(ctx context.Context) error {
	if t.closed {
		return errors.New("use the nftables table: it is closed")
	}
	return ctx.Err()
}

// Close lets go; the table stays and bans end by themselves.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.log == nil {
		return nil
	}
	err := t.log.close()
	t.log = nil
	return err
}

// Remove deletes the table. Table can be used again after it.
func (t *Table) Remove(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := Remove(ctx); err != nil {
		return err
	}
	t.rules, t.configured, t.seen, t.denied = firewall.Rules{}, false, seen{}, denied{}
	return t.findSets()
}

// Remove deletes the table, whoever made it. Where there is none it does
// nothing.
func Remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	c.AddTable(table) // so that deleting it is no error
	c.DelTable(table)
	return explain("delete table inet "+tableName, c.Flush())
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) }

// explain adds to a refusal of the kernel what to do about it.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: this process lacks CAP_NET_ADMIN (start it as root, or let the service manager give it that): %w", what, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s: this kernel has no nf_tables with the inet family, or it is not loaded (modprobe nf_tables; or set firewall.engine to \"xdp\"): %w", what, err)
	case errors.Is(err, unix.ENFILE):
		// Its own text, too many open files, would lead astray.
		return fmt.Errorf("%s: a set is full (lift some bans, or ban wider prefixes)", what)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: our table or a part of it is gone: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

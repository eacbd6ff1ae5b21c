package nft

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
	"mailweir/geo"
)

// Countries and networks that are denied are two interval sets, geo4_7 and
// geo6_7 for the seventh time that they change. New ones are filled while no
// rule names them, then the rules turn to them in one transaction, and the old
// ones go.
const (
	deniedPrefix4 = "geo4_"
	deniedPrefix6 = "geo6_"
	// intervalsAtOnce is how many go into a transaction: what nobody refers to may
	// come in pieces.
	intervalsAtOnce = 50_000
)

// denied is what the sets hold.
type denied struct {
	number int // in the names of the sets; 0: nobody is denied
	last   int // the highest number that was used
	world  *geo.Tables
	rules  []geo.Rule
	first  [2]netip.Addr // of the sets; invalid: that one is empty
}

var chainDenied = &nftables.Chain{Name: "denied", Table: table}

func deniedSet(prefix string, number int, keys nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: prefix + strconv.Itoa(number), KeyType: keys, KeyByteOrder: binaryutil.BigEndian, Interval: true,
	}
}

func (d denied) sets() [2]*nftables.Set {
	return [2]*nftables.Set{
		deniedSet(deniedPrefix4, d.number, nftables.TypeIPAddr), deniedSet(deniedPrefix6, d.number, nftables.TypeIP6Addr),
	}
}

// numberOf finds the number in the name of a set of ours.
func numberOf(name string) (n int, ok bool) {
	for _, prefix := range []string{deniedPrefix4, deniedPrefix6} {
		if digits, is := strings.CutPrefix(name, prefix); is {
			n, err := strconv.Atoi(digits)
			return n, err == nil
		}
	}
	return 0, false
}

// nextDenied makes the sets for rules, which are those that stand where nothing
// has changed.
func (t *Table) nextDenied(ctx context.Context, rules firewall.Rules) (denied, error) {
	d := t.denied
	if rules.World == nil || len(rules.Deny) == 0 {
		return denied{last: d.last}, nil
	}
	if d.number > 0 && d.world == rules.World && slices.Equal(d.rules, rules.Deny) && t.deniedStand() == nil {
		return d, nil
	}
	t.denied.last++ // at once: sets that are left half-written are never those of other rules
	d = denied{number: t.denied.last, last: t.denied.last, world: rules.World, rules: slices.Clone(rules.Deny)}
	c, err := connect()
	if err != nil {
		return d, err
	}
	c.AddTable(table)
	for _, s := range d.sets() {
		if err := c.AddSet(s, nil); err != nil {
			return d, fmt.Errorf("prepare sets of countries: %w", err)
		}
	}
	if err := c.Flush(); err != nil {
		return d, explain("make sets of countries", err)
	}
	wanted := rules.World.Wanted(rules.Deny)
	for i, ranges := range []iter.Seq[geo.Range]{rules.World.Ranges4(wanted), rules.World.Ranges6(wanted)} {
		if d.first[i], err = fillIntervals(ctx, d.sets()[i].Name, ranges); err != nil {
			return d, explain("write sets of countries", err)
		}
	}
	return d, nil
}

// fillIntervals says which address is the first.
func fillIntervals(ctx context.Context, set string, ranges iter.Seq[geo.Range]) (first netip.Addr, err error) {
	var list []interval
	flush := func() error {
		tx, err := begin()
		if err != nil {
			return err
		}
		tx.addIntervals(set, list)
		list = list[:0]
		return tx.commit(ctx)
	}
	for r := range ranges {
		if !first.IsValid() {
			first = r.First
		}
		list = append(list, interval{addr: r.First})
		if end := r.Last.Next(); end.IsValid() {
			list = append(list, interval{addr: end, end: true})
		}
		if len(list) >= 2*intervalsAtOnce {
			if err := flush(); err != nil {
				return first, err
			}
		}
	}
	return first, flush()
}

// interval is one end of an interval in a set.
type interval struct {
	addr netip.Addr
	end  bool // the first address behind it
}

func (tx *transaction) addIntervals(set string, list []interval) {
	for len(list) > 0 {
		start := len(tx.buf)
		tx.buf = tx.socket.message(tx.buf, request(unix.NFT_MSG_NEWSETELEM), unix.NLM_F_REQUEST|unix.NLM_F_CREATE, unix.NFPROTO_INET, 0)
		tx.buf = appendSetName(tx.buf, set)
		var elements int
		tx.buf, elements = openAttr(tx.buf, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED)
		n := 0
		for n < len(list) && len(tx.buf)-elements < maxList {
			tx.buf = appendInterval(tx.buf, list[n])
			n++
		}
		tx.buf = closeAttr(tx.buf, elements)
		list = list[n:]
		seal(tx.buf, start)
	}
}

func appendSetName(b []byte, set string) []byte {
	b = appendText(b, unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	return appendText(b, unix.NFTA_SET_ELEM_LIST_SET, set)
}

func appendInterval(b []byte, i interval) []byte {
	b, elem := openAttr(b, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED)
	b, key := openAttr(b, unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED)
	b = appendAttr(b, unix.NFTA_DATA_VALUE, i.addr.AsSlice()...)
	b = closeAttr(b, key)
	if i.end {
		b = appendAttr(b, unix.NFTA_SET_ELEM_FLAGS, 0, 0, 0, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	return closeAttr(b, elem)
}

// deniedStand asks for the first interval of each set.
func (t *Table) deniedStand() error {
	if t.denied.number == 0 {
		return nil
	}
	sock, err := dial()
	if err != nil {
		return err
	}
	defer sock.close()
	for i, s := range t.denied.sets() {
		if !t.denied.first[i].IsValid() {
			continue
		}
		if err := hasInterval(sock, s.Name, t.denied.first[i]); err != nil {
			return err
		}
	}
	return nil
}

func hasInterval(sock *socket, set string, first netip.Addr) error {
	b := sock.message(nil, request(unix.NFT_MSG_GETSETELEM), unix.NLM_F_REQUEST, unix.NFPROTO_INET, 0)
	b = appendSetName(b, set)
	b, elements := openAttr(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED)
	b = closeAttr(appendInterval(b, interval{addr: first}), elements)
	seal(b, 0)
	if err := sock.send(b); err != nil {
		return err
	}
	err := sock.answers(sock.seq, func([]byte) error { return nil })
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("table inet %s: somebody has emptied or removed set %s", tableName, set)
	}
	return err
}

// dropDenied removes the sets of countries that no rule names any more.
func (t *Table) dropDenied() error {
	c, err := connect()
	if err != nil {
		return err
	}
	list, err := c.GetSets(table)
	if err != nil {
		return explain("list our sets", err)
	}
	some := false
	for _, s := range list {
		if n, ours := numberOf(s.Name); ours && n != t.denied.number {
			c.DelSet(s)
			some = true
		}
	}
	if !some {
		return nil
	}
	return explain("remove old sets of countries", c.Flush())
}

// writeDenied writes what drops new connections from denied countries. What
// can be told to open none goes on; a first fragment too short to tell does
// not, nor does one that hides even its port: it may be for any.
func (t *Table) writeDenied(c *nftables.Conn, d denied, observe bool) {
	rule(c, chainProtected, flags(expr.CmpOpNeq), count("clean"), verdict(expr.VerdictAccept))
	sets, whole := d.sets(), []banSet{{4, 32}, {6, 128}}
	for i, s := range sets {
		rule(c, chainProtected, destinationPort(), anyPort(), whole[i].source(), lookup(s.Name), jump(chainDenied))
	}
	first := [][][]expr.Any{{firstFragment4()}, {noFragment(), firstFragment6()}}
	for i, s := range sets {
		for _, hides := range first[i] {
			rule(c, chainProtected, whole[i].source(), lookup(s.Name), hides, jump(chainDenied))
		}
	}
	if observe {
		t.sample(c, chainDenied, "observed")
		rule(c, chainDenied, count("observed"), verdict(expr.VerdictAccept))
		return
	}
	t.sample(c, chainDenied, "geo")
	rule(c, chainDenied, count("geo"), verdict(expr.VerdictDrop))
}

// firstFragment4 matches what is no later fragment (RFC 791). What has a port
// was judged before.
func firstFragment4() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0}},
	}
}

// firstFragment6 is the same by the fragment header (RFC 8200 section 4.5).
func firstFragment6() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 0}},
	}
}

// noFragment matches what has no fragment header.
func noFragment() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	}
}

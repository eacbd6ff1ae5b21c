package nft

import (
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// tableName is the one table that is ours.
const tableName = "mailweir"

var (
	table  = &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	accept = nftables.ChainPolicyAccept

	// chainIn is where packets come in, before connection tracking.
	chainIn = &nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, Policy: &accept,
	}
	chainProtected = &nftables.Chain{Name: "protected", Table: table}
	chainStrike    = &nftables.Chain{Name: "strike", Table: table}
	chains         = []*nftables.Chain{chainIn, chainProtected, chainStrike, chainDenied, chainLimited}
)

// counterNames are the reasons packets are counted under, as in package xdp.
var counterNames = []string{"local", "clean", "allowed", "observed", "banned", "geo", "syn_limit", "explained"}

// writeBase writes what is there before any rule: the table, its counters and
// sets. Writing what is there changes nothing.
func (t *Table) writeBase(c *nftables.Conn, sets []banSet) error {
	c.AddTable(table)
	for _, name := range counterNames {
		c.AddObj(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	for _, s := range append(limitSets(), portSet, allowSet4, allowSet6, localSet4, localSet6) {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	for _, s := range sets {
		if err := c.AddSet(s.set(t.opt.size(s)), nil); err != nil {
			return err
		}
	}
	return nil
}

// writeRules writes the chains anew. A packet meets the old rules or the new.
func (t *Table) writeRules(c *nftables.Conn, sets []banSet, d denied, rules firewall.Rules) {
	for _, chain := range chains {
		c.AddChain(chain)
	}
	for _, chain := range chains {
		c.FlushChain(chain)
	}
	// Only TCP. Where the protocol cannot be read the rule does not match.
	rule(c, chainIn, metaNot(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), verdict(expr.VerdictAccept))
	rule(c, chainIn, destinationPort(), lookup(portSet.Name), jump(chainProtected))
	// Any port that can be read is not protected. What is left has none, like
	// a fragment that is not the first: it passes for everybody but the banned.
	rule(c, chainIn, destinationPort(), anyPort(), verdict(expr.VerdictAccept))
	rule(c, chainIn, jump(chainProtected))
	t.writeProtected(c, sets, d, rules)
	t.writeStrike(c, rules)
}

func (t *Table) writeProtected(c *nftables.Conn, sets []banSet, d denied, rules firewall.Rules) {
	host4, host6 := banSet{4, 32}, banSet{6, 128}
	rule(c, chainProtected, host4.source(), lookup(localSet4.Name), count("local"), verdict(expr.VerdictAccept))
	rule(c, chainProtected, host6.source(), lookup(localSet6.Name), count("local"), verdict(expr.VerdictAccept))
	rule(c, chainProtected, host4.source(), lookup(allowSet4.Name), count("allowed"), verdict(expr.VerdictAccept))
	rule(c, chainProtected, host6.source(), lookup(allowSet6.Name), count("allowed"), verdict(expr.VerdictAccept))
	for _, s := range sets {
		rule(c, chainProtected, s.source(), lookup(s.name()), jump(chainStrike))
	}
	if d.number > 0 {
		t.writeDenied(c, d, rules.Observe)
	}
	t.writeLimits(c, rules)
	rule(c, chainProtected, count("clean"))
}

func (t *Table) writeStrike(c *nftables.Conn, rules firewall.Rules) {
	if rules.Observe {
		t.sample(c, chainStrike, "observed")
		rule(c, chainStrike, count("observed"), verdict(expr.VerdictAccept))
		return
	}
	writeLane(c, rules)
	t.sample(c, chainStrike, "banned")
	rule(c, chainStrike, count("banned"), verdict(expr.VerdictDrop))
}

func rule(c *nftables.Conn, chain *nftables.Chain, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: table, Chain: chain}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	c.AddRule(r)
}

func metaNot(key expr.MetaKey, value byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{value}},
	}
}

func destinationPort() []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

func anyPort() []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{0, 0}}}
}

func lookup(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}}
}

func count(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: name}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(to *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: to.Name}}
}

// source loads the source address, masked to the length of the set's bans.
func (s banSet) source() []expr.Any {
	protocol, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if s.family == 6 {
		protocol, offset, size = unix.NFPROTO_IPV6, 8, 16
	}
	parts := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if s.single() {
		return parts
	}
	return append(parts, &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: size,
		Mask: net.CIDRMask(s.bits, s.width()), Xor: make([]byte, size),
	})
}

// perMessage is how many elements of a small set go into a message; its length
// has 16 bits.
const perMessage = 500

// fill makes elements all that a set holds.
func fill(c *nftables.Conn, s *nftables.Set, elements []nftables.SetElement) error {
	c.FlushSet(s)
	for len(elements) > 0 {
		n := min(perMessage, len(elements))
		if err := c.SetAddElements(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

func fillRules(c *nftables.Conn, rules firewall.Rules) error {
	var ports []nftables.SetElement
	for _, p := range rules.Ports {
		ports = append(ports, nftables.SetElement{Key: []byte{byte(p >> 8), byte(p)}})
	}
	for _, f := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{
		{portSet, ports},
		{allowSet4, intervals(rules.Allow, 4)}, {allowSet6, intervals(rules.Allow, 6)},
		{localSet4, intervals(local, 4)}, {localSet6, intervals(local, 6)},
	} {
		if err := fill(c, f.set, f.elements); err != nil {
			return err
		}
	}
	return nil
}

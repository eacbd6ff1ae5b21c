package nft

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// How many connections a source may open, and how many a banned one may to hear
// why, are counted in sets that packets fill: syn4 and syn6, explain4 and
// explain6. A set that is full counts nobody new: the limit is lenient then, and
// the lane closed. What the lane let in is in explained4 and explained6, by
// source and its port, for a minute.
//
// There is no flood guard here: what one source may is all that is counted.
const (
	mostCounted = 1 << 16
	flowFor     = time.Minute
)

var (
	chainLimited = &nftables.Chain{Name: "limited", Table: table}
	hosts        = []banSet{{4, 32}, {6, 64}} // what counts as one source
)

// counting is a set that packets fill.
func (s banSet) counting(name string) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: name + string('0'+rune(s.family)), KeyType: s.keyType(), KeyByteOrder: binaryutil.BigEndian,
		HasTimeout: true, Dynamic: true, Size: mostCounted,
	}
}

// flows is the set of connections that were let in.
func (s banSet) flows() *nftables.Set {
	set := s.counting("explained")
	set.Concatenation = true
	set.KeyType = nftables.MustConcatSetType(s.keyType(), nftables.TypeInetService)
	return set
}

func limitSets() (list []*nftables.Set) {
	for _, s := range hosts {
		list = append(list, s.counting("syn"), s.counting("explain"), s.flows())
	}
	return list
}

// writeLimits drops what a source opens beyond what it may.
func (t *Table) writeLimits(c *nftables.Conn, rules firewall.Rules) {
	if rules.SYNPerMinute <= 0 {
		return
	}
	for _, s := range hosts {
		rule(c, chainProtected, opens(), s.source(), s.update("syn", 5*time.Minute, &expr.Limit{
			Type: expr.LimitTypePkts, Unit: expr.LimitTimeMinute, Rate: uint64(rules.SYNPerMinute), Burst: uint32(rules.SYNPerMinute), Over: true,
		}), jump(chainLimited))
	}
	if rules.Observe {
		t.sample(c, chainLimited, "observed")
		rule(c, chainLimited, count("observed"), verdict(expr.VerdictAccept))
		return
	}
	t.sample(c, chainLimited, "syn_limit")
	rule(c, chainLimited, count("syn_limit"), verdict(expr.VerdictDrop))
}

// writeLane lets a banned source in to hear why.
func writeLane(c *nftables.Conn, rules firewall.Rules) {
	if rules.ExplainPerHour <= 0 {
		return
	}
	for _, s := range hosts {
		whole := banSet{s.family, s.width()}
		flow := append(whole.source(), &expr.Payload{
			DestRegister: flowRegister(s.family), Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2,
		})
		rule(c, chainStrike, flow, lookup(s.flows().Name), count("explained"), verdict(expr.VerdictAccept))
		budget := s.update("explain", time.Hour, &expr.Limit{
			Type: expr.LimitTypePkts, Unit: expr.LimitTimeHour, Rate: uint64(rules.ExplainPerHour), Burst: uint32(rules.ExplainPerHour),
		})
		admit := []expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: s.flows().Name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: flowFor}}
		rule(c, chainStrike, opens(), s.source(), budget, flow, admit, count("explained"), verdict(expr.VerdictAccept))
	}
}

// flowRegister is the register of 32 bits behind the source address.
func flowRegister(family int) uint32 {
	if family == 4 {
		return unix.NFT_REG32_01
	}
	return unix.NFT_REG32_04
}

// update counts the source in register 1, and goes on where l matches.
func (s banSet) update(name string, keep time.Duration, l *expr.Limit) []expr.Any {
	return []expr.Any{&expr.Dynset{
		SrcRegKey: 1, SetName: s.counting(name).Name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: keep, Exprs: []expr.Any{l},
	}}
}

// opens matches what opens a connection: SYN without ACK.
func opens() []expr.Any { return flags(expr.CmpOpEq) }

func flags(op expr.CmpOp) []expr.Any {
	const synAck, syn = 0x12, 0x02
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{synAck}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{syn}},
	}
}

package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"

	"mailweir/bpf"
	"mailweir/firewall"
)

// The verdicts of an XDP program that ours knows.
const (
	xdpDrop = 1
	xdpPass = 2
)

// selfTestCases are packets whose end is known: what a program must do right
// before it may take the place of one that works.
var selfTestCases = []struct {
	src     string
	port    uint16
	verdict uint32
}{
	{"192.0.2.1", 25, xdpDrop},        // banned by itself
	{"198.51.100.9", 25, xdpDrop},     // by its /24
	{"2001:db8::1", 25, xdpDrop},      // by itself
	{"2001:db8:1::9", 25, xdpDrop},    // by its /64
	{"2001:db8:2::9", 25, xdpDrop},    // by a /40
	{"192.0.2.1", 80, xdpPass},        // a port that is not protected
	{"192.0.2.2", 25, xdpPass},        // allowed
	{"192.0.2.3", 25, xdpPass},        // clean
	{"2001:db8:ffff::1", 25, xdpPass}, // clean
}

// selfTest runs the program of spec, with small maps of its own, on packets.
func selfTest(spec *ebpf.CollectionSpec) error {
	t := &Table{opt: Options{}.withDefaults()}
	var obj bpf.FilterObjects
	if err := spec.Copy().LoadAndAssign(&obj, nil); err != nil {
		return explain("load the packet program to test it", err)
	}
	if err := t.adopt(&loaded{obj: &obj}); err != nil {
		return err
	}
	defer t.release()
	if err := t.fillForTest(); err != nil {
		return fmt.Errorf("test the packet program: %w", err)
	}
	return t.runCases()
}

func (t *Table) fillForTest() error {
	rules := firewall.Rules{Ports: []uint16{25}, Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")}}
	if err := t.writeRules(rules); err != nil {
		return err
	}
	now, err := t.moment()
	if err != nil {
		return err
	}
	var bans []firewall.Ban
	for _, p := range []string{
		"192.0.2.1/32", "192.0.2.2/32", "198.51.100.0/24",
		"2001:db8::1/128", "2001:db8:1::/64", "2001:db8:2::/40",
	} {
		bans = append(bans, firewall.Ban{Prefix: netip.MustParsePrefix(p), Until: now.wall.Add(time.Hour)})
	}
	tx, err := t.plan(now, bans, nil)
	if err != nil {
		return err
	}
	return t.commit(tx)
}

func (t *Table) runCases() error {
	for _, c := range selfTestCases {
		src := netip.MustParseAddr(c.src)
		verdict, err := t.obj.Mailweir.Run(&ebpf.RunOptions{Data: synFrame(src, c.port)})
		if err != nil {
			return explain("test the packet program", err)
		}
		if verdict != c.verdict {
			return fmt.Errorf("test the packet program: a packet of %s to port %d ends as %d, not %d (set firewall.engine to \"nft\" and report this)",
				src, c.port, verdict, c.verdict)
		}
	}
	return nil
}

// synFrame is an Ethernet frame that opens a TCP connection.
func synFrame(src netip.Addr, port uint16) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, 50000)
	binary.BigEndian.PutUint16(tcp[2:], port)
	tcp[12], tcp[13] = 5<<4, 0x02
	if src.Is4() {
		return append(append(make([]byte, 12), 0x08, 0x00), append(header4(src, len(tcp)), tcp...)...)
	}
	return append(append(make([]byte, 12), 0x86, 0xdd), append(header6(src, len(tcp)), tcp...)...)
}

func header4(src netip.Addr, payload int) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 4<<4|5, 64, 6
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+payload))
	copy(h[12:], src.AsSlice())
	return h
}

func header6(src netip.Addr, payload int) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, 6, 64
	binary.BigEndian.PutUint16(h[4:], uint16(payload))
	copy(h[8:], src.AsSlice())
	return h
}

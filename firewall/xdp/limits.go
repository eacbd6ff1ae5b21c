package xdp

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"mailweir/bpf"
	"mailweir/firewall"
)

// millisecond is the unit of SYN cells: 2^20 ns.
const millisecond = 1 << 20

// writeLimits tells the packet program how many connections may be opened. Its
// fields are read one by one: for a moment an old one may go with a new one.
func (t *Table) writeLimits(rules firewall.Rules) {
	var c bpf.FilterConfig
	if n := rules.SYNPerMinute; n > 0 {
		gap := max(1, int(time.Minute)/n/millisecond)
		c.SynGap, c.SynBurst = uint32(gap), uint32(gap*(n-1))
	}
	c.Explain = uint32(min(rules.ExplainPerHour, 255))
	now := (*bpf.FilterConfig)(unsafe.Pointer(&t.cfg[0]))
	atomic.StoreUint32(&now.SynBurst, c.SynBurst)
	atomic.StoreUint32(&now.SynGap, c.SynGap)
	atomic.StoreUint32(&now.Explain, c.Explain)
}

// The flood guard looks at the connections opened within at least floodLook, and
// ends when they were below half of what starts it for floodCalm.
const (
	floodLook = 300 * time.Millisecond
	floodCalm = 10 * time.Second
)

// flood is what the flood guard has seen.
type flood struct {
	at, loud uint64 // CLOCK_MONOTONIC, ns: the last look, and the last that saw a flood
	opened   uint64 // connections by then
}

// watchFlood starts and ends the flood guard. It is asked twice a second; when
// nobody asks, whole networks are not held to account.
func (t *Table) watchFlood() error {
	limit := t.rules.FloodPerSecond
	if limit == 0 || t.rules.SYNPerMinute == 0 {
		return nil
	}
	now, err := t.moment()
	if err != nil {
		return err
	}
	f := &t.flood
	since := now.kernel - f.at
	if f.at != 0 && since < uint64(floodLook) {
		return nil
	}
	var perCPU []uint64
	if err := t.obj.Syns.Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read how many connections are opened: %w", err)
	}
	var opened uint64
	for _, n := range perCPU {
		opened += n
	}
	before := *f
	f.at, f.opened = now.kernel, opened
	if before.at == 0 || opened < before.opened { // the program was loaded anew, and counts from 0
		return nil
	}
	rate := (opened - before.opened) * uint64(time.Second) / since
	active := t.word()&cfgFlood != 0
	if rate >= uint64(limit) || active && rate >= uint64(limit)/2 {
		f.loud = now.kernel
		t.setWord(t.word() | cfgFlood)
	} else if active && now.kernel-f.loud >= uint64(floodCalm) {
		t.setWord(t.word() &^ cfgFlood)
	}
	return nil
}

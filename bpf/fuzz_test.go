package bpf_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// pair is the program dropping and observing; the same frames go to both.
type pair struct{ drops, observes *filter }

func loadPair(t testing.TB) pair {
	m := world()
	p := pair{drops: load(t, m)}
	m.observe = true
	p.observes = load(t, m)
	return p
}

func (p pair) agree(t testing.TB, name string, b []byte) int {
	t.Helper()
	p.observes.agree(t, name, b)
	return p.drops.agree(t, name, b)
}

// FuzzAgainstModel looks for bytes over which program and model differ.
func FuzzAgainstModel(f *testing.F) {
	for _, c := range fixtures {
		if c.jumbo == 0 {
			f.Add(c.bytes())
		}
	}
	p := loadPair(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The kernel runs the program on whole Ethernet headers only.
		if len(b) >= 14 && len(b) <= 2048 {
			p.agree(t, "fuzzed", b)
		}
	})
}

// FuzzComposed reads its input as choices of how to compose a frame: nearly all
// inputs are frames that get deep into the program.
func FuzzComposed(f *testing.F) {
	p := loadPair(f)
	f.Fuzz(func(t *testing.T, b []byte) { p.agree(t, "composed", compose(&choices{b})) })
}

// TestComposed composes many frames at random. That every end is reached often
// shows that they get everywhere.
func TestComposed(t *testing.T) {
	if testing.Short() {
		t.Skip("many frames in one goroutine: -short (make race) leaves that to make test")
	}
	p := loadPair(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.NewChaCha8([32]byte(binary.NativeEndian.AppendUint64(make([]byte, 24), seed)))
	var ends [reasonCount]int
	for range 20000 {
		b := make([]byte, 64)
		_, _ = r.Read(b)
		ends[p.agree(t, "composed", compose(&choices{b}))]++
		if t.Failed() {
			return
		}
	}
	for reason, n := range ends {
		if n < 20 && reason != observed && reason < fromDenied {
			t.Errorf("only %d frames ended as %s: %v", n, reasonNames[reason], ends)
		}
	}
}

// choices hands out its bytes one by one, and 0 when they are used up.
type choices struct{ rest []byte }

func (c *choices) below(n int) int {
	if len(c.rest) == 0 {
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return int(b) % n
}

// pick picks the first of a list half of the time: what most frames are like.
func pick[T any](c *choices, first T, others ...T) T {
	if i := c.below(2 * len(others)); i < len(others) {
		return others[i]
	}
	return first
}

func compose(c *choices) []byte {
	f := frame{
		src:      sources[c.below(len(sources))],
		port:     pick[uint16](c, 25, 80, 587, 24, 65535, 1),
		tags:     pick(c, 0, 1, 2, 3),
		options:  4 * pick(c, 0, 1, 2, 10),
		proto:    pick[byte](c, 6, 17, 58, 0, 44, 50, 59, 60, 51, 43),
		fragment: pick[uint16](c, 0, 1, 0x1fff, 0x2000, 0x4000, 0x2001),
	}
	for range pick(c, 0, 1, 2, 3, 5, 6, 7, 8) {
		f.headers = append(f.headers, pick[byte](c, 60, 0, 43, 44, 51, 60))
	}
	b := f.bytes()
	for range pick(c, 0, 1, 2, 4) { // spoil some bytes of the headers
		at := min(12+c.below(100), len(b)-1)
		b[at] = pick(c, byte(c.below(256)), 0, 1, 4, 6, 8, 0x45, 0x60, 44, 60, 255)
	}
	switch c.below(6) {
	case 0:
		b = b[:max(14, len(b)-c.below(100))]
	case 1:
		b = append(b, make([]byte, c.below(64))...)
	}
	if l3 := 14 + 4*f.tags; c.below(4) == 0 && len(b) > l3+40 {
		b = shortened(b, l3)
	}
	return b
}

var sources = []string{
	"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9", "10.1.2.3", "10.1.1.1", "10.9.1.1", "10.255.0.1", "172.16.5.9",
	"172.16.6.1", "203.0.113.1", "127.0.0.1", "169.254.7.7", "224.0.0.1", "0.0.0.0", "255.255.255.255",
	"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::5", "2001:db8:0:3::5", "2001:db8:0:101::5", "2001:db8:1:1::5",
	"2001:db8:1:9::5", "2001:db8:2::5", "2001:db8:3::5", "2001:db8:4::5", "2001:db8:8000::5", "2001:db8:ff00::5",
	"::", "::1", "::2", "fe80::1", "febf::1", "fec0::1", "ff02::1", "::ffff:192.0.2.1",
}

package bpf_test

import (
	"fmt"
	"testing"

	"mailweir/bpf"
)

// limit puts limits in force.
func (f *filter) limit(t testing.TB, mode uint64, c bpf.FilterConfig) {
	t.Helper()
	c.Mode, c.Key = f.mode()|mode, f.hash
	if err := f.obj.Cfg.Put(uint32(0), c); err != nil {
		t.Fatal(err)
	}
}

const (
	floodMode   = 1 << 34
	explainMode = 1 << 35
	hour        = 1 << 24 // a gap that nobody waits out, in cells of SYNs
)

// ends fails unless frames of src end as wanted, one after the other.
func (f *filter) ends(t *testing.T, fr frame, want ...int) {
	t.Helper()
	for i, reason := range want {
		verdict, got := f.run(t, fr.bytes())
		if got != reason || (verdict == drop) != (reason == synLimit || reason == flood || reason == banned) {
			t.Fatalf("%s: frame %d ends as %s, verdict %d; want %s", fr.src, i, reasonNames[got], verdict, reasonNames[reason])
		}
	}
}

// Opening packets beyond the limit are dropped, of that source alone; others of
// its packets pass, and allow wins.
func TestSYNLimit(t *testing.T) {
	f := load(t, world())
	f.model.allow = nil
	f.limit(t, 0, bpf.FilterConfig{SynGap: hour, SynBurst: 2 * hour})
	for _, src := range []string{"192.0.2.2", "2001:db8:7::1"} {
		f.ends(t, frame{src: src}, clean, clean, clean, synLimit, synLimit)
		f.ends(t, frame{src: src, port: 80}, unprotected)
		f.ends(t, frame{src: src, fragment: 1, headers: []byte{44}}, noPort)
		f.ends(t, frame{src: src, edit: func(ip []byte) { ip[len(ip)-7] = 0x10 }}, clean) // ACK
	}
	f.ends(t, frame{src: "2001:db8:7::2"}, synLimit) // the /64 is one source
	f.ends(t, frame{src: "2001:db8:7:1::1"}, clean)
	f.ends(t, frame{src: "10.9.0.1"}, allowed)
	f.ends(t, frame{src: "192.0.2.1"}, banned)
	f.limit(t, 2, bpf.FilterConfig{SynGap: hour, SynBurst: 2 * hour})
	f.ends(t, frame{src: "192.0.2.2"}, observed)
	f.limit(t, 0, bpf.FilterConfig{})
	f.ends(t, frame{src: "192.0.2.2"}, clean)
}

// What is owed is forgiven with time.
func TestSYNLimitForgives(t *testing.T) {
	f := load(t, world())
	f.limit(t, 0, bpf.FilterConfig{SynGap: 20, SynBurst: 0})
	f.ends(t, frame{src: "192.0.2.2"}, clean)
	for begun := monotonic(t); ; {
		_, got := f.run(t, frame{src: "192.0.2.2"}.bytes())
		if got == clean {
			if waited := monotonic(t) - begun; waited < 5<<20 {
				t.Errorf("forgiven after %d ns", waited)
			}
			return
		}
		if monotonic(t)-begun > 10e9 {
			t.Fatal("never forgiven")
		}
	}
}

// The network of a source counts only while the flood guard is active.
func TestFloodGuard(t *testing.T) {
	f := load(t, world())
	c := bpf.FilterConfig{SynGap: hour, SynBurst: hour} // 2 a source, 5 a network
	for _, n := range []struct{ host, other string }{{"198.51.100.%d", "198.51.101.1"}, {"2001:db8:9:%d::1", "2001:db8:a::1"}} {
		f.limit(t, 0, c)
		for i := range 20 {
			f.ends(t, frame{src: fmt.Sprintf(n.host, i+1)}, clean)
		}
		f.limit(t, floodMode, c)
		for i := range 10 {
			want := clean
			if i >= 5 {
				want = flood
			}
			f.ends(t, frame{src: fmt.Sprintf(n.host, i+100)}, want)
		}
		f.ends(t, frame{src: n.other}, clean)
	}
}

// R-CX-01: a banned source opens so many connections an hour; each goes on, and
// what is none of them stays dropped.
func TestExplainLane(t *testing.T) {
	f := load(t, world())
	f.limit(t, explainMode, bpf.FilterConfig{Explain: 2})
	for _, src := range []string{"192.0.2.1", "2001:db8::1"} {
		open := func(port byte) frame {
			return frame{src: src, edit: func(ip []byte) { ip[len(ip)-19] = port }}
		}
		follow := func(port byte) frame {
			return frame{src: src, edit: func(ip []byte) { ip[len(ip)-19], ip[len(ip)-7] = port, 0x10 }}
		}
		f.ends(t, follow(1), banned)
		f.ends(t, open(1), explained, explained) // repeated, it is one connection
		f.ends(t, open(2), explained)
		f.ends(t, open(3), banned, banned)
		f.ends(t, follow(1), explained)
		f.ends(t, follow(2), explained)
		f.ends(t, follow(3), banned)
		f.ends(t, frame{src: src, fragment: 1, headers: []byte{44}}, banned)
	}
	f.ends(t, frame{src: "10.0.0.1"}, explained) // another source
	f.limit(t, 0, bpf.FilterConfig{Explain: 2})
	f.ends(t, frame{src: "10.0.0.1"}, banned)
}

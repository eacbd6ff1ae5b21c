package dns

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// unpacked is an answer of n address records as it comes from the wire.
func unpacked(t *testing.T, name string, n int) Answer {
	t.Helper()
	m := new(dns.Msg)
	m.Compress = true
	for i := range n {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(192, 0, byte(i>>8), byte(i)),
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var got dns.Msg
	if err := got.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return Answer{State: Found, Records: got.Answer}
}

// Somebody who has names without end, with answers as long as he likes, takes
// no more memory than the cache may have, and pushes out nobody else by few.
func TestStrangersFillTheCache(t *testing.T) {
	now := time.Unix(1e9, 0)
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, records := range []int{1, 100, 3000} {
		t.Run(fmt.Sprint(records), func(t *testing.T) {
			c := cache{entries: map[question]entry{}}
			ours := question{"mail.example.com.", dns.TypeA}
			c.put(ours, unpacked(t, ours.name, 1), now.Add(time.Hour), now)
			before := heap()
			for i := range min(mostEntries+20_000, 400_000/records) {
				q := question{fmt.Sprintf("n%d.%s.example.", i, strings.Repeat("x", 50)), dns.TypeA}
				c.put(q, unpacked(t, q.name, records), now.Add(time.Hour), now)
			}
			took := heap() - before
			sum := 0
			for _, e := range c.entries {
				sum += e.octets
			}
			if c.octets != sum || c.octets > mostOctets || c.len() > mostEntries {
				t.Errorf("%d entries, %d octets, counted as %d", c.len(), sum, c.octets)
			}
			if took > mostOctets*3/2 {
				t.Errorf("%d octets are %d on the heap", c.octets, took)
			}
			if _, there := c.get(ours, now); records > 1000 && !there {
				t.Error("long answers push out what others need")
			}
			t.Logf("%d entries, %d octets, %d on the heap", c.len(), c.octets, took)
			c.put(ours, Answer{State: NoName}, now.Add(2*time.Hour), now.Add(90*time.Minute)) // all else is over
			if c.len() != 1 || c.octets != octetsOf(ours, Answer{}) {
				t.Errorf("%d entries, %d octets are left", c.len(), c.octets)
			}
		})
	}
}

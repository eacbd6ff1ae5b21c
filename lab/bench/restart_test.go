package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"mailweir/firewall"
	"mailweir/firewall/guard"
)

// The bans that a restart finds on the disk. Their sources are spread over the
// address space.
const (
	restart4 = 10_000_000
	restart6 = 1_000_000
)

// BenchmarkRestart starts the product, whole, with eleven million bans in its
// ledger and the world of countries: how long until the mail port greets, which
// it does not before the kernel has every ban; and what memory guard and the
// kernel take then. Of the guard process the memory of its own (RssAnon) and
// that of files apart: the tables of bans are the kernel's, and mapped, so that
// they are in both figures.
func BenchmarkRestart(b *testing.B) {
	s := newSite(b)
	s.writeRecipients(b)
	s.ours(b, "restart.toml") // once, for what a first start makes
	s.weir.Stop()
	began := time.Now()
	s.weir.Start()
	empty := time.Since(began)
	before := s.guardMemory(b)
	s.weir.Stop()
	s.writeLedger(b)

	began = time.Now()
	s.weir.StartWithin(5 * time.Minute) // it is the figure, and no limit
	took := time.Since(began)
	worked := s.guardTime(b)
	if n := s.standing(b); n != restart4+restart6 {
		b.Fatalf("%d bans stand after the start, not %d", n, restart4+restart6)
	}
	fresh := s.guardMemory(b)
	quiet(b, s.edge)
	after := s.guardMemory(b)

	b.Logf("%s; engine xdp, native; the world loaded", machine())
	b.Logf("from the start to the greeting: %v without bans, %v with %d of IPv4 and %d of IPv6, of which guard worked %v",
		empty.Round(time.Millisecond), took.Round(time.Millisecond), restart4, restart6, worked)
	b.Logf("without bans %v; just started %v; at rest %v", before, fresh, after)
	b.ReportMetric(took.Seconds(), "s-to-greeting")
	b.ReportMetric(worked.Seconds(), "s-of-processor")
	b.ReportMetric(after.anon, "MB-guard")
	b.ReportMetric(after.file, "MB-guard-files")
	b.ReportMetric(after.kernel, "MB-kernel")
	b.ReportMetric(0, "ns/op")
	results.add(fmt.Sprintf("a start with %d bans", restart4+restart6), took.Round(10*time.Millisecond).String(), "none", "aim 10s")
	results.add("guard's memory then", fmt.Sprintf("%.0f MB, at most %.0f", after.anon, after.peak), "none", "aim 500 MB; mapped beside it "+fmt.Sprintf("%.0f MB", after.file))
	results.add("the kernel's memory then", fmt.Sprintf("%.0f MB", after.kernel), "none", "aim 350 MB")
}

// writeLedger fills the ledger that guard will find. The appliance is stopped.
func (s *site) writeLedger(b *testing.B) {
	b.Helper()
	l, _, err := firewall.OpenLedger(filepath.Join(s.edge.Path("/var/lib/mailweir"), "guard", "ledger"), firewall.Terms{}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	const step = 100_000
	var orders []firewall.Order
	for i := range uint32(restart4 + restart6) {
		p := netip.PrefixFrom(spread4(i), 32)
		if i >= restart4 {
			p = netip.PrefixFrom(spread6(i), 64)
		}
		orders = append(orders, firewall.Order{Prefix: p, For: 48 * time.Hour, Why: "for a figure"})
		if len(orders) < step {
			continue
		}
		if _, wrong := l.Ban(orders); wrong != nil {
			b.Fatal(wrong[0].Err)
		}
		if err := l.Sync(); err != nil {
			b.Fatal(err)
		}
		orders = orders[:0]
	}
	if n := l.Len(); n != restart4+restart6 {
		b.Fatalf("%d bans were made, not %d", n, restart4+restart6)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// spread4 is another address for each n, nowhere that anybody in the lab lives:
// 1.0.0.0/8 to 95.0.0.0/8, but 10.0.0.0/8.
func spread4(n uint32) netip.Addr {
	const room = 94 << 24
	n = uint32(uint64(n) * 0x9e3779b1 % room) // the factor is odd and no multiple of 47: no two are the same
	first := byte(n>>24) + 1
	if first >= 10 {
		first++
	}
	return netip.AddrFrom4([4]byte{first, byte(n >> 16), byte(n >> 8), byte(n)})
}

// spread6 is another /64 of 2400::/8 for each n.
func spread6(n uint32) netip.Addr {
	n *= 0x9e3779b1
	return netip.AddrFrom16([16]byte{0x24, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// standing is how many bans weir status tells of.
func (s *site) standing(b *testing.B) int {
	b.Helper()
	var st struct{ Guard guard.Status }
	s.status(b, &st)
	return st.Guard.Bans
}

// guardMemory is what guard takes, in MB.
type guardMemory struct{ anon, file, peak, kernel float64 }

func (m guardMemory) String() string {
	return fmt.Sprintf("guard %.0f MB of its own and %.0f MB of files (at most %.0f together), kernel %.0f MB", m.anon, m.file, m.peak, m.kernel)
}

// guardMemory reads proc_pid_status(5), and what the kernel says of the maps
// that guard holds.
func (s *site) guardMemory(b *testing.B) (m guardMemory) {
	b.Helper()
	pid := s.weir.PID("guard")
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/status", pid))) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		switch name {
		case "RssAnon":
			m.anon = kb * 1024 / 1e6
		case "RssFile":
			m.file = kb * 1024 / 1e6
		case "VmHWM":
			m.peak = kb * 1024 / 1e6
		}
	}
	if m.anon == 0 {
		b.Fatal("guard does not run")
	}
	m.kernel = mapsOf(b, pid) / 1e6
	return m
}

// guardTime is the processor time of guard, of all its threads.
func (s *site) guardTime(b *testing.B) time.Duration {
	b.Helper()
	text := readFile(fmt.Sprintf("/proc/%d/stat", s.weir.PID("guard")))
	w := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(w) < 13 {
		b.Fatal("guard does not run")
	}
	user, _ := strconv.Atoi(w[11])
	system, _ := strconv.Atoi(w[12])
	return time.Duration(user+system) * 10 * time.Millisecond // proc_pid_stat(5) counts hundredths
}

// mapsOf adds up the memory of the kernel's maps that a process has open, and of
// those that are in them: tables of bans, and the world.
func mapsOf(b *testing.B, pid int) (sum float64) {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	seen := map[ebpf.MapID]bool{}
	for _, e := range list {
		for line := range strings.Lines(readFile(filepath.Join(dir, e.Name()))) {
			if value, ok := strings.CutPrefix(line, "map_id:"); ok {
				id, _ := strconv.Atoi(strings.TrimSpace(value))
				sum += memlock(b, ebpf.MapID(id), seen)
			}
		}
	}
	return sum
}

// memlock is what the kernel says of a map and of those in it, but of those that
// were seen before.
func memlock(b *testing.B, id ebpf.MapID, seen map[ebpf.MapID]bool) float64 {
	b.Helper()
	if seen[id] {
		return 0
	}
	seen[id] = true
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return 0 // it is gone
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		b.Fatal(err)
	}
	bytes, _ := info.Memlock()
	sum := float64(bytes)
	if info.Type == ebpf.ArrayOfMaps || info.Type == ebpf.HashOfMaps {
		var key, inner uint32
		for it := m.Iterate(); it.Next(&key, &inner); {
			sum += memlock(b, ebpf.MapID(inner), seen)
		}
	}
	return sum
}

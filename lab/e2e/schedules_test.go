package e2e

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

const schedulesSettings = `hostname = "mx1.example.com"

[smtp]
greet_wait = "0s"
per_source = { open = 100, new_per_minute = 100000 }

[firewall]
enabled = false

[greylist]
mode = "all"

[backend.office]
url = "smtp://192.0.2.10:25"
tls = "off"

[domain."example.com"]
backends = ["office"]
`

// pool is a sending server whose connections come from twenty hosts in turn.
type pool struct {
	*lab.Outbound
	domain   string
	schedule []int // minutes
}

const poolSize = 20

// newPool starts a server in the network 198.18.net.0/24, behind twenty
// addresses of it, and returns what the name server has to know of it.
func (s *site) newPool(t *testing.T, server string, net int, schedule []int) (p pool, records []string) {
	t.Helper()
	p = pool{domain: fmt.Sprintf("%s-%d.example", server, schedule[0]), schedule: schedule}
	h := s.Host(fmt.Sprintf("pool%d", net), fmt.Sprintf("198.18.%d.0/24", net))
	records = []string{
		p.domain + ". MX 10 out1." + p.domain + ".",
		fmt.Sprintf(`%s. TXT "v=spf1 ip4:198.18.%d.0/24 -all"`, p.domain, net),
	}
	var hosts []string
	for i := range poolSize {
		addr, name := fmt.Sprintf("198.18.%d.%d", net, i+1), fmt.Sprintf("out%d.%s.", i+1, p.domain)
		hosts = append(hosts, fmt.Sprintf("%d : %s", i, addr))
		records = append(records, name+" A "+addr, fmt.Sprintf("%d.%d.18.198.in-addr.arpa. PTR %s", i+1, net, name))
	}
	shell(t, h, fmt.Sprintf(`nft 'table ip pool { chain out { type nat hook postrouting priority srcnat; tcp dport 25 snat to numgen inc mod %d map { %s }; }; }'`,
		poolSize, strings.Join(hosts, ", ")))
	p.Outbound = h.Outbound(server, "out1."+p.domain, lab.OutboundOptions{})
	return p, records
}

// came is how often the pool's hosts were put off, and how often they were heard.
func (s *site) came(p pool) (putOff, accepted int) {
	for line := range strings.Lines(s.weir.Log()) {
		if strings.Contains(line, " transaction: ") && strings.Contains(line, " mail_from=x@"+p.domain+" ") {
			switch {
			case strings.Contains(line, "outcome=accepted"):
				accepted++
			case strings.Contains(line, "reason=greylist"):
				putOff++
			}
		}
	}
	return putOff, accepted
}

// The schedules of real mail servers, with pools of twenty hosts, get through on
// the first retry behind the delay (R-RN-16). Their queues are run when their
// clocks would; ours goes on by what the greylist has on disk growing older.
func TestSchedulesOfRealServers(t *testing.T) {
	t.Parallel()
	s := &site{Lab: lab.New(t)}
	s.dns = s.Host("ns", "192.0.2.53").DNS()
	s.office = s.Host("office", "192.0.2.10")
	s.postfix = s.office.Postfix(lab.PostfixOptions{Users: []string{anna}})
	s.edge = s.Host("mx1", edge4.Addr().String())
	records := []string{"example.com. MX 10 mx1.example.com.", "mx1.example.com. A 192.0.2.25"}
	var pools []pool
	for i, schedule := range [][]int{{1, 3, 5, 15, 45}, {30}} {
		for j, server := range lab.Outbounds {
			p, more := s.newPool(t, server, 10*i+j, schedule)
			pools, records = append(pools, p), append(records, more...)
		}
	}
	s.dns.Serve(records...)
	s.weir = s.edge.Weir(schedulesSettings)
	for _, p := range pools {
		s.send(t, p, 0)
		s.Eventually(patience, p.domain+" is put off", func() bool { off, _ := s.came(p); return off == 1 })
	}
	now := 0
	for _, minute := range []int{1, 3, 5, 15, 30, 45} {
		due := slices.DeleteFunc(slices.Clone(pools), func(p pool) bool {
			return !slices.Contains(p.schedule, minute) || p.Queued() == 0
		})
		if len(due) == 0 {
			continue // they are through
		}
		s.later(t, minute-now)
		now = minute
		for _, p := range due {
			s.retry(t, p, minute)
		}
	}
	further := pools[:len(lab.Outbounds)]
	for _, p := range further { // from its other hosts, which need not wait
		off, heard := s.came(p)
		for n := range poolSize {
			s.send(t, p, n+1)
		}
		s.flushed(t, p, p.domain+" is heard at once", func() bool { _, all := s.came(p); return all == heard+poolSize })
		if again, _ := s.came(p); again != off {
			t.Errorf("%s: of %d further mails %d were put off", p.domain, poolSize, again-off)
		}
	}
	s.Eventually(patience, "all lies in the mailbox", func() bool { return len(s.postfix.Mail(anna)) == len(pools)+len(further)*poolSize })
	s.once(t, len(pools)+len(further)*poolSize)
}

func (s *site) send(t *testing.T, p pool, n int) {
	t.Helper()
	text := strings.Replace(message(fmt.Sprintf("<%d@%s>", n, p.domain), "x", "hello\r\n"), "x@sender.example", "x@"+p.domain, 1)
	if err := p.Send("x@"+p.domain, anna, text); err != nil {
		t.Fatalf("%s: %v", p.domain, err)
	}
}

// retry has a pool come again.
func (s *site) retry(t *testing.T, p pool, minute int) {
	t.Helper()
	off, heard := s.came(p)
	s.flushed(t, p, fmt.Sprintf("%s comes again after %d min", p.domain, minute), func() bool {
		again, all := s.came(p)
		return again+all > off+heard
	})
	const delay = 10
	_, all := s.came(p)
	if passed := all > heard; passed != (minute >= delay) {
		t.Errorf("%s comes again after %d min, and passes: %v", p.domain, minute, passed)
	}
	if minute >= delay {
		s.flushed(t, p, p.domain+" keeps nothing", func() bool { return p.Queued() == 0 })
	}
}

// flushed has a pool send what it keeps, until something is so. It is told so more
// than once where need be: OpenSMTPD leaves a server alone for a while that has
// ended a connection.
func (s *site) flushed(t *testing.T, p pool, what string, so func() bool) {
	t.Helper()
	var told time.Time
	s.Eventually(3*patience, what, func() bool {
		if time.Since(told) > 3*time.Second {
			told = time.Now()
			if err := p.Flush(); err != nil {
				t.Fatalf("%s: %v", p.domain, err)
			}
		}
		return so()
	})
}

// later makes all that the greylist has older by some minutes, as if they had
// gone by: the clock is the machine's, and no test may turn it.
func (s *site) later(t *testing.T, minutes int) {
	t.Helper()
	if code := s.weir.Stop(); code != 0 {
		t.Fatalf("stopped with exit code %d", code)
	}
	name := s.edge.Path("/var/lib/mailweir/mail/greylist.state")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const magic, entry, key = 16, 25, 17 // smtp/greylist/snapshot.go
	for at := magic; at+entry < len(b)-4; at += entry {
		for _, moment := range [][]byte{b[at+key:], b[at+key+4:]} {
			binary.LittleEndian.PutUint32(moment, binary.LittleEndian.Uint32(moment)-uint32(minutes*60))
		}
	}
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)))
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.weir.Start()
}

package bench

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkIdle is the memory of the mail process for a connection that has been
// greeted and says nothing more, in the clear and behind STARTTLS. It is what
// its resident memory has grown by. What the kernel holds for the sockets is
// not in it, nor is a peer.
func BenchmarkIdle(b *testing.B) {
	const connections, addresses = 10_000, 2_000
	for _, kind := range []string{"plain", "tls"} {
		b.Run(kind, func(b *testing.B) {
			s := newSite(b)
			s.writeRecipients(b)
			s.ours(b, "idle.toml")
			before := resident(b, s.weir.PID("mail"))
			var idle []net.Conn
			defer func() {
				for _, nc := range idle {
					nc.Close()
				}
			}()
			err := s.client.Do(func() error {
				for n := range connections {
					nc, err := dialWithin(nth(sources, n%addresses), smtpPort(s.edge), 5*time.Second)
					if err != nil {
						return err
					}
					idle = append(idle, nc)
					if err := settle(nc, kind == "tls"); err != nil {
						return fmt.Errorf("connection %d: %w", n, err)
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			quiet(b, s.edge)
			if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.weir.PID("mail"))); err != nil || len(open) < connections {
				b.Fatalf("the mail process has %d files open, and not every connection: %v", len(open), err)
			}
			each := float64(resident(b, s.weir.PID("mail"))-before) / connections / 1024
			b.Logf("%s; %d idle connections of %d addresses, %s: %.1f KiB of resident memory each", machine(), connections, addresses, kind, each)
			b.ReportMetric(each, "KiB/conn")
			b.ReportMetric(0, "ns/op")
			results.add("an idle connection, "+kind, fmt.Sprintf("%.1f KiB resident", each), "not measured", "aim 32 KiB")
		})
	}
}

// settle brings a connection to where it stays idle.
func settle(nc net.Conn, secure bool) error {
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	s := newSpeaker(nc)
	s.expect("220")
	if secure {
		s.ask("EHLO client.sender.example", "250")
		s.ask("STARTTLS", "220")
		if s.err == nil {
			s.err = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).Handshake()
		}
	}
	return s.err
}

// resident is the resident memory of a process, in bytes.
func resident(b *testing.B, pid int) int {
	b.Helper()
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatalf("process %d has no resident memory", pid)
	return 0
}

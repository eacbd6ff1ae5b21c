package bench

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// BenchmarkIdle is the memory of an idle connection: before the greeting, which
// Postfix would leave to postscreen; greeted; after EHLO; after EHLO behind
// STARTTLS.
// For each: the heap and the stacks as Go counts them when garbage was last
// collected, what the resident memory of the mail process has grown by, and what
// the kernel charges to the process for its sockets (memory.kmem of version 1
// of control groups) or takes for them without charging anybody. Postfix beside it holds as many as it has processes for.
func BenchmarkIdle(b *testing.B) {
	b.Run(waiting, benchWaiting)
	for _, point := range []string{"greeted", "after EHLO", "after EHLO in TLS"} {
		b.Run(point, func(b *testing.B) {
			s := newSite(b)
			s.writeRecipients(b)
			s.ours(b, "idle.toml")
			const connections, addresses, processes = 10_000, 2_000, 200
			h := s.holding(b, []int{s.weir.PID("mail")}, s.edge, point, connections, addresses)
			s.theirs(b, "idle.cf")
			ours := h.String()
			peer := fmt.Sprintf("%v, at %d connections", s.holding(b, nil, s.peer, point, processes, processes), processes)
			b.Logf("%s; %d idle connections of %d addresses, %s: ours %s; Postfix %s", machine(), connections, addresses, point, ours, peer)
			b.ReportMetric(h.resident, "KiB/conn")
			b.ReportMetric(0, "ns/op")
			results.add("an idle connection, "+point, ours, peer, "aim 32 KiB of ours")
		})
	}
}

const waiting = "before the greeting"

// benchWaiting has no more connections than come and are measured in the ten
// seconds that the gate may hold any.
func benchWaiting(b *testing.B) {
	s := newSite(b)
	s.writeRecipients(b)
	s.ours(b, "idle-gate.toml")
	const connections, addresses = 4_000, 2_000
	h := s.holding(b, []int{s.weir.PID("mail")}, s.edge, waiting, connections, addresses)
	b.Logf("%s; %d connections of %d addresses, %s: %s", machine(), connections, addresses, waiting, h)
	b.ReportMetric(h.resident, "KiB/conn")
	b.ReportMetric(0, "ns/op")
	results.add("an idle connection, "+waiting, h.String(), "none", "aim 32 KiB of ours")
}

// held is the memory of a connection, in KiB. What is not known is less than 0.
type held struct{ heap, stacks, resident, kernel float64 }

func (h held) String() string {
	s := fmt.Sprintf("%.1f KiB resident", h.resident)
	if h.heap >= 0 {
		s += fmt.Sprintf(" (live heap %.1f, stacks %.1f)", h.heap, h.stacks)
	}
	if h.kernel < 0 {
		return s + ", kernel not measured"
	}
	return s + fmt.Sprintf(", kernel %.1f KiB", h.kernel)
}

// holding brings connections to a point, and says what each takes of the memory
// of processes, nil being all of a host but its first.
func (s *site) holding(b *testing.B, pids []int, h *lab.Host, point string, connections, addresses int) held {
	b.Helper()
	k := newKernelMemory(b, h, pids)
	before := s.memory(b, h, pids)
	kernel := k.bytes()
	var idle []net.Conn
	defer func() {
		for _, nc := range idle {
			nc.Close()
		}
	}()
	err := s.client.Do(func() error {
		for n := range connections {
			nc, err := dialWithin(nth(sources, n%addresses), smtpPort(h), 5*time.Second)
			if err != nil {
				return err
			}
			idle = append(idle, nc)
			if err := settle(nc, point); err != nil {
				return fmt.Errorf("connection %d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	quiet(b, h)
	after := s.memory(b, h, pids)
	if point == waiting {
		if err := silent(idle); err != nil {
			b.Fatal(err)
		}
	}
	each := func(before, after int) float64 { return float64(after-before) / float64(connections) / 1024 }
	m := held{-1, -1, each(before.resident, after.resident), -1}
	if pids != nil {
		m.heap, m.stacks = each(before.heap, after.heap), each(before.stacks, after.stacks)
	}
	if now := k.bytes(); now >= 0 {
		m.kernel = each(kernel, now) + socketSize()/1024
	}
	return m
}

// settle brings a connection to where it stays idle.
func settle(nc net.Conn, point string) error {
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	if point == waiting {
		return nil
	}
	s := newSpeaker(nc)
	s.expect("220 ")
	if point == "greeted" {
		return s.err
	}
	s.ask("EHLO client.sender.example", "250 ")
	if point == "after EHLO in TLS" {
		s.ask("STARTTLS", "220 ")
		if s.err == nil {
			secure := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
			s = newSpeaker(secure)
			s.ask("EHLO client.sender.example", "250 ")
		}
	}
	return s.err
}

// silent says that none of the connections has heard more than the first line of
// a greeting, which comes before the wait.
func silent(idle []net.Conn) error {
	var heard [512]byte
	for i, nc := range idle {
		rc, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		n := 0
		if err := rc.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), heard[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) }); err != nil {
			return err
		}
		if bytes.Contains(heard[:max(n, 0)], []byte("220 ")) {
			return fmt.Errorf("connection %d was greeted before the memory was measured", i)
		}
	}
	return nil
}

// counted is the memory of processes, in bytes, and the connections open.
type counted struct{ heap, stacks, resident, open int }

func (s *site) memory(b *testing.B, h *lab.Host, pids []int) (c counted) {
	b.Helper()
	all := pids
	if all == nil {
		all = h.PIDs()
	}
	for _, pid := range all {
		c.resident += resident(b, pid)
	}
	if pids == nil {
		return c
	}
	type status struct {
		Mail struct {
			Memory struct{ Heap, Stacks int } `json:"memory"`
			Open   int                        `json:"open"`
		} `json:"mail"`
	}
	var st status
	s.status(b, &st)
	c.heap, c.stacks, c.open = st.Mail.Memory.Heap, st.Mail.Memory.Stacks, st.Mail.Open
	return c
}

// resident is the memory of a process that it shares with no other, and its
// part of what it shares, in bytes.
func resident(b *testing.B, pid int) int {
	b.Helper()
	for line := range strings.Lines(readFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	return 0 // it has ended
}

// socketSize is what a TCP socket takes of the slab. Version 1 of control groups
// charges what is around it to the process that accepts, and not the socket.
func socketSize() float64 {
	for line := range strings.Lines(readFile("/proc/slabinfo")) {
		if w := strings.Fields(line); len(w) > 3 && w[0] == "TCP" {
			n, _ := strconv.ParseFloat(w[3], 64)
			return n
		}
	}
	return 0
}

// kernelMemory counts what the kernel charges to processes.
type kernelMemory struct{ group string }

// newKernelMemory moves processes, and those that they start, to a group of
// their own. A machine without version 1 of the memory controller has none.
func newKernelMemory(b *testing.B, h *lab.Host, pids []int) kernelMemory {
	b.Helper()
	const base = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(base + "/memory.kmem.usage_in_bytes"); err != nil {
		return kernelMemory{}
	}
	group, err := os.MkdirTemp(base, "mailweir-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // the processes end with the lab, which is later
		home := filepath.Join(base, "cgroup.procs")
		for word := range strings.FieldsSeq(readFile(group + "/cgroup.procs")) {
			_ = os.WriteFile(home, []byte(word), 0)
		}
		if err := os.Remove(group); err != nil {
			b.Log(err)
		}
	})
	if pids == nil {
		pids = h.PIDs()
	}
	for _, pid := range pids {
		if err := os.WriteFile(group+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil && !errors.Is(err, unix.ESRCH) {
			b.Fatal(err)
		}
	}
	return kernelMemory{group}
}

func (k kernelMemory) bytes() int {
	if k.group == "" {
		return -1
	}
	sum := 0
	for _, file := range []string{"memory.kmem.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"} {
		n, err := strconv.Atoi(strings.TrimSpace(readFile(filepath.Join(k.group, file))))
		if err != nil {
			return -1
		}
		sum += n
	}
	return sum
}

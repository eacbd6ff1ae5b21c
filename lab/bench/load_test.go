package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// loadEnv makes this test program a load generator, which runs on a host of the
// lab: so its processor time is its own, and none of its garbage is ours.
const loadEnv = "MAILWEIR_BENCH_LOAD"

// A load is what the generator is to do.
type load struct {
	Target  netip.AddrPort
	Sources netip.Prefix // each connection comes from the next address of it
	Round   int          // makes what is new in this round differ from other rounds
	Clients int
	For     time.Duration // sessions that have begun then are ended
	Pause   time.Duration // of each client between two sessions
	Rate    int           // not Clients, but so many a second: each waits for its greeting, and leaves

	Listed  bool // anna is named, and refused for where they come from
	Unknown int  // recipients that do not exist, a session
	Body    int  // bytes of a message to anna, where Unknown is 0 and nobody is listed
}

// A yield is what came of it.
type yield struct {
	Sessions int
	Elapsed  time.Duration
	P50, P99 time.Duration // of a session, or of a greeting where there is a Rate
	Wrong    string        // the first thing that went wrong
}

// drive runs a load on a host and waits for its end.
func drive(b *testing.B, l *lab.Lab, h *lab.Host, what load) yield {
	b.Helper()
	y, err := try(b.Context(), h, generator(b, l), what)
	if err != nil {
		b.Fatal(err)
	}
	return y
}

// try is drive for goroutines, which cannot end a benchmark.
func try(ctx context.Context, h *lab.Host, generator string, what load) (y yield, err error) {
	spec, err := json.Marshal(what)
	if err != nil {
		return y, err
	}
	cmd := h.Command(generator)
	cmd.Env = append(cmd.Env, loadEnv+"="+string(spec))
	ctx, cancel := context.WithTimeout(ctx, what.For+patience)
	defer cancel()
	out, err := h.RunCommand(ctx, cmd)
	if err == nil {
		err = json.Unmarshal([]byte(out), &y)
	}
	if err == nil && (y.Wrong != "" || y.Sessions == 0) {
		err = errors.New("no load")
	}
	if err != nil {
		return y, fmt.Errorf("load on %s: %w: %s %s", h.Name, err, y.Wrong, out)
	}
	return y, nil
}

// generator is this program, at a place that every host sees.
func generator(b *testing.B, l *lab.Lab) string {
	b.Helper()
	to := filepath.Join(l.Dir(), "load")
	if _, err := os.Stat(to); err == nil {
		return to
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(to, program, 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	return to
}

// runLoad is the life of the generator.
func runLoad(spec string) int {
	var what load
	if err := json.Unmarshal([]byte(spec), &what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r := runner{load: what, end: time.Now().Add(what.For)}
	y := r.run()
	if err := json.NewEncoder(os.Stdout).Encode(y); err != nil {
		return 1
	}
	return 0
}

// runner is a load under way.
type runner struct {
	load
	end     time.Time
	next    atomic.Int64
	mu      sync.Mutex
	took    []time.Duration
	trouble error
}

func (r *runner) run() yield {
	start := time.Now()
	var clients sync.WaitGroup
	for i := range r.Rate * int(r.For/time.Second) {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(r.Rate))))
		clients.Go(r.visit)
	}
	for range r.Clients {
		clients.Go(func() {
			for time.Now().Before(r.end) && r.one() {
				time.Sleep(r.Pause)
			}
		})
	}
	clients.Wait()
	y := yield{Sessions: len(r.took), Elapsed: time.Since(start)}
	if slices.Sort(r.took); len(r.took) > 0 {
		y.P50, y.P99 = r.took[len(r.took)/2], r.took[len(r.took)*99/100]
	}
	if r.trouble != nil {
		y.Wrong = r.trouble.Error()
	}
	return y
}

// visit waits for a greeting. How long it takes to leave is not counted.
func (r *runner) visit() {
	start := time.Now()
	nc, err := dialWithin(r.Sources.Addr(), r.Target, visitPatience)
	var took time.Duration
	if err == nil {
		defer nc.Close()
		s := newSpeaker(nc)
		err = nc.SetDeadline(start.Add(visitPatience))
		s.expect("220")
		took = time.Since(start)
		s.ask("QUIT", "221")
		err = errors.Join(err, s.err)
	}
	r.note(took, err)
}

// visitPatience is longer than the first packet takes that is sent once more.
const visitPatience = 10 * time.Second

// one has one session and says whether to go on.
func (r *runner) one() bool {
	n := int(r.next.Add(1))
	start := time.Now()
	err := r.session(n)
	return r.note(time.Since(start), err)
}

// note keeps what a session took, and says whether all went well so far.
func (r *runner) note(took time.Duration, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.trouble = errors.Join(r.trouble, err)
	}
	r.took = append(r.took, took)
	return r.trouble == nil
}

func (r *runner) session(n int) error {
	nc, err := dialFrom(nth(r.Sources, n+r.Round<<10), r.Target)
	if err != nil {
		return err
	}
	defer nc.Close()
	s := newSpeaker(nc)
	s.expect("220")
	s.ask("EHLO client.sender.example", "250")
	s.ask("MAIL FROM:<a@sender.example>", "250")
	if r.Listed {
		s.ask("RCPT TO:<anna@example.com>", "55")
	} else if r.Unknown == 0 {
		s.ask("RCPT TO:<anna@example.com>", "250")
		s.ask("DATA", "354")
		s.say(body(fmt.Sprintf("<figure-%d-%d@sender.example>", r.Round, n), r.Body) + ".")
		s.expect("250")
	}
	for i := range r.Unknown {
		s.ask(fmt.Sprintf("RCPT TO:<g%d.%d.%d@example.com>", r.Round, n, i), "550 5.1.1")
	}
	s.ask("QUIT", "221")
	return s.err
}

// body is a message of n bytes, in lines. Its id is its own: who has passed a
// message on already does not do so again.
func body(id string, n int) string {
	header := "From: a@sender.example\r\nTo: anna@example.com\r\nSubject: a figure\r\nMessage-ID: " + id + "\r\n\r\n"
	const line = "The quick brown fox jumps over the lazy dog, and then once more.\r\n"
	text := header + strings.Repeat(line, n/len(line)+1)
	return text[:n-2] + "\r\n"
}

// speaker is one SMTP dialogue. After the first error it says nothing more.
type speaker struct {
	nc  net.Conn
	in  *bufio.Reader
	err error
}

func newSpeaker(nc net.Conn) *speaker {
	return &speaker{nc: nc, in: bufio.NewReaderSize(nc, 1024)}
}

func (s *speaker) ask(line, want string) {
	s.say(line)
	s.expect(want)
}

func (s *speaker) say(line string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.nc, line+"\r\n")
	}
}

// expect reads a reply of any number of lines, of which the last has to begin
// with want.
func (s *speaker) expect(want string) {
	for s.err == nil {
		line, err := s.in.ReadString('\n')
		switch {
		case err != nil:
			s.err = fmt.Errorf("wait for %s: %w", want, err)
		case len(line) > 3 && line[3] == '-':
			continue
		case !strings.HasPrefix(line, want):
			s.err = fmt.Errorf("heard %q instead of %s", line, want)
		}
		return
	}
}

// dialFrom connects from an address of the host.
func dialFrom(from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	return dialWithin(from, to, 0)
}

// dialWithin is dialFrom with a limit of time; 0 leaves it to the kernel.
func dialWithin(from netip.Addr, to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   limit,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			ctl := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(ctl, err)
		},
	}
	d.SetMultipathTCP(false)
	return d.Dial("tcp", to.String())
}

// nth is the n-th address of an IPv4 prefix, around and around.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	size := 1 << (32 - p.Bits())
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(n % size)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

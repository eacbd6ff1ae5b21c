package syslog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exporter runs an Exporter to target until the test ends, or stop is called.
func exporter(t *testing.T, o Options) (e *Exporter, stop func()) {
	t.Helper()
	o.Header, o.Retry = header, time.Millisecond
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return e, stop
}

func event(i int) *Message {
	return &Message{Severity: Info, Time: at, ID: "TEST", Text: fmt.Sprintf("event %d", i), Params: []Param{{"n", strconv.Itoa(i)}}}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// readFrame reads one message of counted octets (RFC 6587 section 3.4.1).
func readFrame(r *bufio.Reader) (string, error) {
	n, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(n, " "))
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func wantEvent(t *testing.T, r *bufio.Reader, text string) string {
	t.Helper()
	m, err := readFrame(r)
	if err != nil || !strings.HasSuffix(m, "] "+text) {
		t.Fatalf("got %q, %v, want %q", m, err, text)
	}
	return m
}

// A collector that goes away and comes back gets everything that was not
// already on its way into the broken connection, in order.
func TestReconnect(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	addr := l.Addr().String()
	var reports sync.Map
	e, _ := exporter(t, Options{Target: Target{URL: "tcp://" + addr}, Report: func(err error) { reports.Store(err == nil, err) }})
	e.Send(event(1))
	c, r := accept(t, l)
	if m := wantEvent(t, r, "event 1"); !strings.Contains(m, `[meta sequenceId="1"]`) {
		t.Errorf("no sequence in %q", m)
	}
	l.Close()
	c.Close()
	waitFor(t, "the exporter to see it", func() bool {
		e.Send(event(2)) // the first of these may be lost on the wire: nobody can know
		_, away := reports.Load(false)
		return away
	})
	e.Send(event(3))
	l = listen(t, addr)
	_, r = accept(t, l)
	for {
		m, err := readFrame(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(m, "event 3") {
			break
		}
		if !strings.HasSuffix(m, "event 2") && !strings.Contains(m, `[meta sequenceId="1"]`) { // that may come again
			t.Fatalf("got %q", m)
		}
	}
	waitFor(t, "the report that it is back", func() bool { _, back := reports.Load(true); return back })
}

// Without a disk the newest wait; the loss is said, and the sequence has a gap.
func TestLoss(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	addr := l.Addr().String()
	l.Close()
	e, _ := exporter(t, Options{Target: Target{URL: "tcp://" + addr}})
	const n = 2*maxQueued + 500
	for i := range n {
		e.Send(event(i))
	}
	waitFor(t, "all to be counted", func() bool { s := e.Stats(); return len(e.queue) == 0 && s.Lost > 0 && s.Waiting > 0 })
	_, r := accept(t, listen(t, addr))
	e.Send(event(n))
	said, gap, lastSeq, last := 0, 0, 0, -1
	for last != n {
		m, err := readFrame(r)
		if err != nil {
			t.Fatal(err)
		}
		var seq int
		fmt.Sscanf(m[strings.Index(m, "sequenceId"):], `sequenceId="%d"`, &seq)
		gap += seq - lastSeq - 1
		lastSeq = seq
		if strings.Contains(m, " LOST ") {
			said++
			continue
		}
		before := last
		if _, err := fmt.Sscanf(m[strings.LastIndex(m, "event "):], "event %d", &last); err != nil || last <= before {
			t.Fatalf("got %q behind event %d", m, before)
		}
	}
	if lost := e.Stats().Lost; said == 0 || uint64(gap) != lost {
		t.Errorf("%d were lost, %d are missing in the sequence, said %d times", lost, gap, said)
	}
}

// What waits at the end is still sent; a collector that is away does not hold
// the end up for long.
func TestEnd(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	e, stop := exporter(t, Options{Target: Target{URL: "tcp://" + l.Addr().String()}})
	for i := range 100 {
		e.Send(event(i))
	}
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	_, r := accept(t, l)
	for i := range 100 {
		wantEvent(t, r, fmt.Sprintf("event %d", i))
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("behind the last event: %v", err)
	}
	<-ended

	l.Close()
	e, stop = exporter(t, Options{Target: Target{URL: "tcp://" + l.Addr().String()}})
	e.Send(event(1))
	stop() // hangs for ever if the end does not come
	if e.Stats().Lost != 1 {
		t.Errorf("stats %+v: the event that nobody took is not counted", e.Stats())
	}
}

// A collector that accepts and never reads cannot block Send, nor the end.
func TestStuckCollector(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	e, stop := exporter(t, Options{Target: Target{URL: "tcp://" + l.Addr().String()}})
	e.Send(event(0))
	accept(t, l)
	big := &Message{Time: at, ID: "TEST", Text: strings.Repeat("x", maxValue)}
	for e.Stats().Lost == 0 {
		e.Send(big)
	}
	stop()
}

func TestLocalSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e, _ := exporter(t, Options{Target: Target{URL: "unix://" + path}})
	for i := range 3 {
		e.Send(event(i))
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if want := fmt.Sprintf(`<22>1 2026-11-22T08:30:00.123Z mx1.example.net mailweir mail TEST [meta sequenceId="%d"][mailweir@32473 n="%d"] event %d`, i+1, i, i); err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %q", b[:n], err, want)
		}
	}
}

func TestStandardError(t *testing.T) {
	var out strings.Builder
	e, stop := exporter(t, Options{Stderr: &out})
	m := event(1)
	m.Params = append(m.Params, Param{"none", ""}, Param{"helo", "a \"b\"\n<0>forged"})
	e.Send(m)
	stop()
	want := "2026-11-22T08:30:00.123Z test: event 1 n=1 helo=\"a \\\"b\\\"�<0>forged\"\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// Under systemd's journal each line begins with its severity and has no time.
func TestJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for stream, want := range map[string]string{
		journalStream(t, f): "<6>test: event 1 n=1\n",
		"1:1":               "2026-11-22T08:30:00.123Z test: event 1 n=1\n", // stderr was sent elsewhere
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		f.Truncate(0)
		f.Seek(0, io.SeekStart)
		e, stop := exporter(t, Options{Stderr: f})
		e.Send(event(1))
		stop()
		if got, err := os.ReadFile(f.Name()); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func journalStream(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func TestBadTargets(t *testing.T) {
	dir := t.TempDir()
	noCert := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(noCert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, ca := range map[string]string{
		"collector":            "",
		"http://collector:514": "",
		"tcp://":               "",
		"unix://":              "",
		"://":                  "",
		"tls://collector:6514": filepath.Join(dir, "missing.pem"),
		"tls://collector:6515": noCert,
	} {
		if _, err := New(Options{Header: header, Target: Target{URL: url, CA: ca}}); err == nil {
			t.Errorf("%s with CA %q is taken for a target", url, ca)
		}
	}
}

func TestSequenceStartsAnew(t *testing.T) {
	if a, b := sequence(1<<31-1), sequence(1<<31); a != 1<<31-1 || b != 1 {
		t.Errorf("after the largest number %d comes %d, want 1 (RFC 5424 section 7.3.1)", a, b)
	}
}

package syslog

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMain makes this program the edge that TestOutage kills.
func TestMain(m *testing.M) {
	if url := os.Getenv("SYSLOG_TEST_EDGE"); url != "" {
		edge(url, os.Getenv("SYSLOG_TEST_CA"), os.Getenv("SYSLOG_TEST_DIR"))
		return
	}
	os.Exit(m.Run())
}

// edge exports one event for each line of standard input, and repeats the line
// when the event is in the buffer.
func edge(url, ca, dir string) {
	e, err := New(Options{Header: header, Target: Target{URL: url, CA: ca}, Dir: dir, Retry: 1e6})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go e.Run(context.Background())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		n, _ := strconv.Atoi(in.Text())
		before := e.buffered()
		e.Send(event(n))
		for e.buffered() == before {
			e.buffer.sync() // any wait will do
		}
		fmt.Println(n)
	}
}

// buffered is how many events ever came into the buffer and out of memory.
func (e *Exporter) buffered() uint64 {
	e.buffer.mu.Lock()
	defer e.buffer.mu.Unlock()
	if len(e.buffer.mem) > 0 {
		return 0
	}
	return e.buffer.next
}

type edgeProcess struct {
	cmd *exec.Cmd
	in  *bufio.Writer
	out *bufio.Scanner
}

func startEdge(t *testing.T, url, ca, dir string) *edgeProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SYSLOG_TEST_EDGE="+url, "SYSLOG_TEST_CA="+ca, "SYSLOG_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &edgeProcess{cmd, bufio.NewWriter(in), bufio.NewScanner(out)}
	t.Cleanup(p.kill)
	return p
}

func (p *edgeProcess) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// say has the events from one number up to another in the buffer.
func (p *edgeProcess) say(t *testing.T, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		fmt.Fprintln(p.in, n)
		if p.in.Flush() != nil || !p.out.Scan() || p.out.Text() != fmt.Sprint(n) {
			t.Fatalf("the edge does not take event %d", n)
		}
	}
}

// R-MC-07: the collector is killed and comes back, the edge is killed with what
// waits and comes back, and again with the tail of its file torn: every event
// arrives, in order, and the sequence has no gap.
func TestOutage(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t, dir, "ca")
	ca.issue(t, "localhost", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	r := startRsyslog(t,
		fmt.Sprintf(`defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem"`, dir),
		`streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"`)
	_, port, _ := net.SplitHostPort(r.addr)
	url, buffer := "tls://localhost:"+port, filepath.Join(dir, "buffer")

	p := startEdge(t, url, ca.file, buffer)
	p.say(t, 0, 50)
	r.wait(t, 50) // what rsyslogd has read and not written is its own to lose
	r.kill()
	p.say(t, 50, 100)
	p.kill()
	p = startEdge(t, url, ca.file, buffer)
	p.say(t, 100, 150)
	p.kill()
	tear(t, buffer)
	p = startEdge(t, url, ca.file, buffer)
	p.say(t, 150, 200)
	r.start(t)
	p.say(t, 200, 250)

	var got []received
	waitFor(t, "the last event", func() bool {
		got = r.wait(t, 250)
		return got[len(got)-1].SD[SDID]["n"] == "249"
	})
	n, seq := 0, 0
	for _, m := range got {
		s, _ := strconv.Atoi(m.SD["meta"]["sequenceId"])
		if s <= seq {
			continue // sent twice, and seen to be
		}
		if s == seq+2 && n == 150 {
			seq++ // the torn one, which was never put
		}
		if s != seq+1 || m.SD[SDID]["n"] != fmt.Sprint(n) {
			t.Fatalf("event %s with sequenceId %d, want %d with %d", m.SD[SDID]["n"], s, n, seq+1)
		}
		n, seq = n+1, s
	}
	if n != 250 {
		t.Errorf("%d events, want 250", n)
	}
}

// tear leaves half a line behind the newest one, as a power cut does.
func tear(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "0*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no file to tear", err)
	}
	f, err := os.OpenFile(files[len(files)-1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("f", 8) + "9999 <22>1 half of"); err != nil {
		t.Fatal(err)
	}
}

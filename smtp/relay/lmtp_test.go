package relay

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
)

// lmtpSink is a real LMTP server on a unix socket, with a mailbox that can be
// full.
type lmtpSink struct {
	mu   sync.Mutex
	full bool
	got  map[string]int
}

func (s *lmtpSink) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &lmtpSession{s: s}, nil }

type lmtpSession struct {
	s  *lmtpSink
	to []string
}

func (*lmtpSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (x *lmtpSession) Reset()                               { x.to = nil }
func (*lmtpSession) Logout() error                          { return nil }
func (*lmtpSession) Data(io.Reader) error                   { return nil }

func (x *lmtpSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if !strings.HasPrefix(to, "u") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "<" + to + "> User doesn't exist: " + to}
	}
	x.to = append(x.to, to)
	return nil
}

func (x *lmtpSession) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	for _, to := range x.to {
		if x.s.full && strings.HasPrefix(to, "u2@") {
			status.SetStatus(to, &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 2, 2}, Message: "Mailbox is full"})
			continue
		}
		x.s.got[to]++
		status.SetStatus(to, nil)
	}
	return nil
}

// TestLMTPOverUnixSocket against a real server: each recipient gets the message
// once, whatever became of the others at the first try.
func TestLMTPOverUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "lmtp") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &lmtpSink{full: true, got: map[string]int{}}
	server := gosmtp.NewServer(s)
	server.LMTP, server.Domain = true, "sink.example"
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() { server.Close(); <-done })

	u, err := ParseURL("lmtp+unix://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBackend(BackendOptions{Name: "sink", URL: u, Hostname: "edge.example"})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, backend: []*Backend{b}}
	r.start("backend", t.TempDir())
	t.Cleanup(r.stop)
	want(t, r.state("u1"), "valid live")
	want(t, r.state("nobody"), "unknown live")
	if got := r.send("hello\r\n", "u1", "u2", "u3"); got.Reply.Code != 451 {
		t.Errorf("one is full: %+v", got)
	}
	s.mu.Lock()
	s.full = false
	s.mu.Unlock()
	if got := r.send("hello\r\n", "u1", "u2", "u3"); got.Reply.Code != 250 {
		t.Errorf("the retry: %+v", got)
	}
	for _, to := range []string{"u1@example.com", "u2@example.com", "u3@example.com"} {
		if s.got[to] != 1 {
			t.Errorf("%s got it %d times", to, s.got[to])
		}
	}
}

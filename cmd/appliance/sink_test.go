package main

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// sink is a mail server behind the appliance: it knows every recipient that
// begins with "user", and keeps what it takes.
type sink struct {
	mu     sync.Mutex
	mail   []string
	broken bool // refuses everybody
}

// refuseAll makes the sink refuse every recipient, or be well again.
func (s *sink) refuseAll(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *sink) knows(to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.broken && strings.HasPrefix(to, "user")
}

// serveSink serves on l until the test ends. With a certificate it offers TLS.
func serveSink(t *testing.T, l net.Listener, cert *tls.Certificate) *sink {
	t.Helper()
	s := &sink{}
	server := smtp.NewServer(s)
	server.Domain = "office.example.net"
	if cert != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return s
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

// has says whether a message with that text arrived.
func (s *sink) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mail {
		if strings.Contains(m, text) {
			return true
		}
	}
	return false
}

type sinkSession struct{ sink *sink }

func (*sinkSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !s.sink.knows(to) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "User unknown"}
	}
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err == nil {
		s.sink.mu.Lock()
		s.sink.mail = append(s.sink.mail, string(body))
		s.sink.mu.Unlock()
	}
	return err
}

func (*sinkSession) Reset()        {}
func (*sinkSession) Logout() error { return nil }

// all is what arrived.
func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mail...)
}

package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"mailweir/smtp"
)

// certificate is self-signed for name.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// sink is a go-smtp server that keeps what it gets.
type sink struct {
	mu    sync.Mutex
	mails []string
}

func (s *sink) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &sinkSession{s}, nil }

type sinkSession struct{ s *sink }

func (sinkSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (sinkSession) Reset()                                 {}
func (sinkSession) Logout() error                          { return nil }

func (sinkSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if !strings.HasPrefix(to, "u") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "No such user here"}
	}
	return nil
}

func (x *sinkSession) Data(r io.Reader) error {
	var b strings.Builder
	if _, err := bufio.NewReader(r).WriteTo(&b); err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.mails = append(x.s.mails, b.String())
	return nil
}

// serve starts a go-smtp server on loopback.
func serve(t *testing.T, cert *tls.Certificate, implicit bool) (*sink, string) {
	t.Helper()
	s := new(sink)
	server := gosmtp.NewServer(s)
	server.Domain = "mx.sink.example"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().String()
	if cert != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
		if implicit {
			l = tls.NewListener(l, server.TLSConfig)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return s, port
}

// TestTLS against a real server: opportunistic takes any certificate, required
// verifies it, and neither falls back where it must not.
func TestTLS(t *testing.T) {
	good, roots := certificate(t, "mx.sink.example")
	other, _ := certificate(t, "mx.sink.example")
	tests := []struct {
		name     string
		scheme   string
		mode     TLSMode
		cert     *tls.Certificate
		state    smtp.OracleState
		tls      string
		trouble  string
		answered int
	}{
		{"off", "smtp", TLSOff, &good, smtp.Valid, "", "", 250},
		{"opportunistic", "smtp", TLSOpportunistic, &other, smtp.Valid, "TLS1.3", "", 250},
		{"opportunistic, none offered", "smtp", TLSOpportunistic, nil, smtp.Valid, "", "", 250},
		{"required", "smtp", TLSRequired, &good, smtp.Valid, "TLS1.3", "", 250},
		{"required, not to be trusted", "smtp", TLSRequired, &other, smtp.Unavailable, "", "certificate", 451},
		{"required, none offered", "smtp", TLSRequired, nil, smtp.Unavailable, "", "offers no STARTTLS", 451},
		{"smtps", "smtps", TLSRequired, &good, smtp.Valid, "TLS1.3", "", 250},
		{"smtps, any certificate", "smtps", TLSOpportunistic, &other, smtp.Valid, "TLS1.3", "", 250},
		{"smtps, not to be trusted", "smtps", TLSRequired, &other, smtp.Unavailable, "", "certificate", 451},
		{"smtps, in clear", "smtps", TLSOpportunistic, nil, smtp.Unavailable, "", "TLS handshake", 451},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			sink, addr := serve(t, c.cert, c.scheme == "smtps")
			b, err := NewBackend(BackendOptions{
				Name: "sink", URL: URL{Scheme: c.scheme, Network: "tcp", Host: "mx.sink.example", Port: "25"}, TLS: c.mode,
				Hostname: "edge.example", Roots: roots,
				Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{t: t, backend: []*Backend{b}}
			r.start("backend", "")
			defer r.stop()
			if a := r.verify("u1"); a.State != c.state {
				t.Errorf("answer %+v", a)
			}
			got := r.send("hello\r\n.dot\r\n", "u1")
			if got.Reply.Code != c.answered || got.Reply.Code == 250 && (len(sink.mails) != 1 || sink.mails[0] != "hello\r\n.dot\r\n") {
				t.Errorf("receipt %+v, arrived %q", got, sink.mails)
			}
			st := b.Status()
			if st.TLS != c.tls || !strings.Contains(st.Reason, c.trouble) || c.trouble != "" && c.mode == TLSRequired && st.State != StateMisconfigured {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// TestTLSFallsBackInClear: only opportunistic, on a fresh connection, and status
// says so.
func TestTLSFallsBackInClear(t *testing.T) {
	for mode, state := range map[TLSMode]smtp.OracleState{TLSOpportunistic: smtp.Valid, TLSRequired: smtp.Unavailable} {
		for name, starttls := range map[string]string{
			"refused":             "454 4.7.0 TLS not available",
			"answered and broken": "220 go ahead\r\n250 injected",
		} {
			t.Run(string(mode)+" "+name, func(t *testing.T) {
				s := &fake{ehlo: []string{"STARTTLS"}, answer: func(c string) string {
					if c == "STARTTLS" {
						return starttls
					}
					return only("u1")(c)
				}}
				b, err := NewBackend(BackendOptions{
					Name: "b", URL: URL{Scheme: "smtp", Network: "tcp", Host: "mx.internal", Port: "25"}, TLS: mode, Hostname: "edge.example", Dial: s.dial,
				})
				if err != nil {
					t.Fatal(err)
				}
				r := &rig{t: t, backend: []*Backend{b}, servers: []*fake{s}}
				r.start("backend", "")
				defer r.stop()
				if a := r.verify("u1"); a.State != state {
					t.Errorf("answer %+v", a)
				}
				if mode == TLSRequired {
					if n := s.count("MAIL") + s.count("RCPT"); n != 0 {
						t.Errorf("%d commands in clear", n)
					}
					return
				}
				if st := b.Status(); st.InClear == "" || s.conns != 2 {
					t.Errorf("%d connections, status %+v", s.conns, st)
				}
			})
		}
	}
}

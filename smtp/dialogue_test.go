package smtp_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dialogue is one client connection of a test.
type dialogue struct {
	t    testing.TB
	nc   net.Conn
	in   *bufio.Reader
	said []string // every reply line
}

// dial connects from a loopback address of 127/8, so that a test can be many
// sources.
func (w *world) dial(from string) *dialogue {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patienceOfTests}
	nc, err := d.Dial("tcp4", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	c := &dialogue{t: w.t, nc: nc}
	c.begin(nc)
	return c
}

func (c *dialogue) begin(nc net.Conn) {
	c.nc, c.in = nc, bufio.NewReader(nc)
	nc.SetDeadline(time.Now().Add(patienceOfTests))
}

// send writes text as it is.
func (c *dialogue) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// line reads one reply line, without CRLF.
func (c *dialogue) line() (string, error) {
	s, err := c.in.ReadString('\n')
	s = strings.TrimRight(s, "\r\n")
	if s != "" {
		c.said = append(c.said, s)
	}
	return s, err
}

// expect reads the last line of one reply and wants it to begin so.
func (c *dialogue) expect(want string) string {
	c.t.Helper()
	for {
		s, err := c.line()
		if err != nil {
			c.t.Fatalf("got %v, want %q", err, want)
		}
		if len(s) > 3 && s[3] == '-' {
			continue
		}
		if !strings.HasPrefix(s, want) {
			c.t.Fatalf("got %q, want %q", s, want)
		}
		return s
	}
}

// ask sends a command and wants the last line of its reply to begin so.
func (c *dialogue) ask(command, want string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	return c.expect(want)
}

// open says EHLO and begins a transaction.
func (c *dialogue) open(from string) {
	c.t.Helper()
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	c.ask("MAIL FROM:<"+from+">", "250 2.1.0")
}

// ended wants the connection to be over; the error says how.
func (c *dialogue) ended() error {
	c.t.Helper()
	for {
		s, err := c.line()
		if err != nil {
			return err
		}
		c.t.Errorf("the server went on: %q", s)
	}
}

// refused wants a connection from a source to end without a word.
func (w *world) refused(from string) {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patienceOfTests}
	nc, err := d.Dial("tcp4", w.addr)
	switch {
	case errors.Is(err, syscall.ECONNRESET): // as early as that
	case err != nil:
		w.t.Fatal(err)
	default:
		c := &dialogue{t: w.t}
		c.begin(nc)
		c.ended()
		nc.Close()
	}
}

// startTLS says STARTTLS and shakes hands, whoever signed.
func (c *dialogue) startTLS() {
	c.t.Helper()
	c.ask("STARTTLS", "220 ")
	tc := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.begin(tc)
}

// selfSigned is a TLS configuration as the first start makes it.
func selfSigned(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.net"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// refusals are the reply lines with a code of 400 and more.
func (c *dialogue) refusals() []string {
	var found []string
	for _, s := range c.said {
		if s[0] == '4' || s[0] == '5' {
			found = append(found, s)
		}
	}
	return found
}

// refOf cuts the ref out of a refusal.
func refOf(line string) (string, error) {
	i := strings.LastIndex(line, "(ref ")
	if i < 0 || !strings.HasSuffix(line, ")") {
		return "", fmt.Errorf("%q carries no ref", line)
	}
	return line[i+5 : len(line)-1], nil
}

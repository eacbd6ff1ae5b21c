package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// clearFor is how long a backend whose handshake failed is spoken to in clear
// (opportunistic) before TLS is tried again.
const clearFor = 10 * time.Minute

// errHandshake says that TLS was tried and failed.
type errHandshake struct{ err error }

func (e *errHandshake) Error() string { return "TLS handshake: " + e.err.Error() }
func (e *errHandshake) Unwrap() error { return e.err }

// dial makes a connection that is ready for MAIL. Where TLS is opportunistic
// and fails, it begins again in clear on a fresh connection: what was said on
// the first may have been tampered with.
func (b *Backend) dial(ctx context.Context) (*client, error) {
	c, err := b.open(ctx, b.wantTLS())
	var h *errHandshake
	if errors.As(err, &h) && b.tls == TLSOpportunistic && b.url.Scheme != "smtps" {
		b.health.clear(h.Error())
		c, err = b.open(ctx, false)
	}
	return c, err
}

func (b *Backend) wantTLS() bool {
	switch b.tls {
	case TLSOff:
		return false
	case TLSOpportunistic:
		return b.url.Scheme == "smtps" || !b.health.inClear(time.Now())
	}
	return true
}

func (b *Backend) open(ctx context.Context, wantTLS bool) (*client, error) {
	dialing, cancel := context.WithTimeout(ctx, dialWait)
	conn, err := b.dialer(dialing, b.url.Network, b.url.Address())
	cancel()
	if err != nil {
		return nil, &failure{stage: AtGreeting, err: fmt.Errorf("connect: %w", err)}
	}
	c := newClient(conn)
	if err := b.prepare(ctx, c, wantTLS); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// prepare brings c to where MAIL can be said.
func (b *Backend) prepare(ctx context.Context, c *client, wantTLS bool) error {
	if b.url.Scheme == "smtps" {
		if err := b.handshake(ctx, c); err != nil {
			return err
		}
	}
	if err := c.greet(ctx, b.url.Scheme, b.hostname); err != nil {
		return err
	}
	if b.url.Scheme == "smtps" || !wantTLS {
		return nil
	}
	if !c.ext.startTLS {
		if b.tls != TLSRequired {
			return nil
		}
		return &failure{stage: AtTLS, meaning: Misconfigured, err: errors.New(
			`the server offers no STARTTLS and tls is "required"; have it offer TLS, or set another mode`)}
	}
	if err := b.startTLS(ctx, c); err != nil {
		return err
	}
	return c.hello(ctx, b.url.Scheme, b.hostname)
}

func (b *Backend) startTLS(ctx context.Context, c *client) error {
	replies, err := c.ask(ctx, "STARTTLS")
	switch {
	case err != nil:
		return b.tlsFailure(fmt.Errorf("say STARTTLS: %w", err))
	case replies[0].Code != 220:
		return b.tlsFailure(fmt.Errorf("STARTTLS was answered %q", cut(replies[0].Line(), 200)))
	}
	// What the server sends in clear behind its answer is refused by within
	// (RFC 3207 section 6).
	return b.handshake(ctx, c)
}

func (b *Backend) handshake(ctx context.Context, c *client) error {
	secure := tls.Client(c.conn, b.tlsConfig())
	err := c.within(ctx, greetWait, func() error { return secure.HandshakeContext(ctx) })
	if err != nil {
		return b.tlsFailure(err)
	}
	version := strings.ReplaceAll(tls.VersionName(secure.ConnectionState().Version), " ", "")
	*c = *newClient(secure)
	c.tls = version
	return nil
}

func (b *Backend) tlsFailure(err error) error {
	f := &failure{stage: AtTLS, err: &errHandshake{err}}
	var cert *tls.CertificateVerificationError
	if b.tls == TLSRequired && errors.As(err, &cert) {
		// No retry mends a certificate.
		f.meaning = Misconfigured
	}
	return f
}

// tlsConfig verifies only where TLS is required: without that, an encrypted
// connection to nobody in particular is still better than one in clear.
func (b *Backend) tlsConfig() *tls.Config {
	c := &tls.Config{ServerName: b.url.Host, RootCAs: b.roots, MinVersion: tls.VersionTLS12}
	if b.tls != TLSRequired {
		c.InsecureSkipVerify = true
		c.MinVersion = tls.VersionTLS10
	}
	return c
}

// DialFunc connects, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

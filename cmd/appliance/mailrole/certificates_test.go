package mailrole

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
)

// handshake is the certificate that a client of host sees.
func handshake(t *testing.T, c *certificates, host string) *x509.Certificate {
	t.Helper()
	client, server := tlsPipe(t)
	done := make(chan error, 1)
	go func() { done <- tls.Server(server, c.config("1.2")).Handshake() }()
	conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0]
}

func TestSelfSignedCertificateIsKept(t *testing.T) {
	now := time.Now()
	c := &certificates{dir: t.TempDir(), now: func() time.Time { return now }}
	take := func(host string) *x509.Certificate {
		t.Helper()
		set, err := c.load(config.Config{Hostname: host})
		if err != nil {
			t.Fatal(err)
		}
		c.use(set)
		return handshake(t, c, host)
	}
	first := take("mx1.example.net")
	if err := first.VerifyHostname("mx1.example.net"); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(c.dir, "self-signed.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key lies there with mode %v, %v", info.Mode(), err)
	}
	if again := take("mx1.example.net"); !again.Equal(first) {
		t.Error("a start makes another one: who pinned it does not know it again")
	}
	if other := take("mx2.example.net"); other.VerifyHostname("mx2.example.net") != nil {
		t.Error("it stays the one of the old name")
	}
	second := take("mx2.example.net")
	now = second.NotAfter.Add(-renewBefore + time.Minute)
	if renewed := take("mx2.example.net"); !renewed.NotAfter.After(second.NotAfter) {
		t.Error("it is not renewed in time")
	}
}

// TestSelfSignedCertificateOutlivesDamage: half a file, as after a power cut of
// old, is set aside.
func TestSelfSignedCertificateOutlivesDamage(t *testing.T) {
	c := &certificates{dir: t.TempDir(), now: time.Now}
	path := filepath.Join(c.dir, "self-signed.pem")
	if err := os.WriteFile(path, []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.load(config.Config{Hostname: "mx1.example.net"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + settings.SetAside); err != nil {
		t.Error("the damaged file is gone: ", err)
	}
}

// TestSelfSignedCertificateIsRenewedWhileRunning: a machine may run for years.
func TestSelfSignedCertificateIsRenewedWhileRunning(t *testing.T) {
	now := time.Now()
	c := &certificates{dir: t.TempDir(), now: func() time.Time { return now }}
	set, err := c.load(config.Config{Hostname: "mx1.example.net"})
	if err != nil {
		t.Fatal(err)
	}
	c.use(set)
	now = set.list[0].Leaf.NotAfter
	tick := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.run(ctx, alarmsSaid{}, tick) }()
	tick <- now
	tick <- now // the first one is done with
	cancel()
	<-done
	if c.cur.Load() == set {
		t.Error("an expired certificate is still shown")
	}
}

// alarmsSaid are the alarms that stand.
type alarmsSaid map[string]string

func (a alarmsSaid) Alarm(name, detail string) { a[name] = detail }
func (a alarmsSaid) Clear(name, _ string)      { delete(a, name) }

// TestCertificatesAreReadAgain: what renews them only replaces the files; half of
// a replacement, or a bad one, is an alarm, and the one before is shown.
func TestCertificatesAreReadAgain(t *testing.T) {
	path, written := filepath.Join(t.TempDir(), "mx.pem"), time.Now().Add(-time.Hour)
	write := func(text []byte) {
		t.Helper()
		written = written.Add(time.Minute) // whatever the file system's clock can tell apart
		if err := errors.Join(os.WriteFile(path, text, 0o600), os.Chtimes(path, written, written)); err != nil {
			t.Fatal(err)
		}
	}
	made := func() []byte {
		t.Helper()
		text, err := makeSelfSigned("mx.example.net", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	write(made())
	c := &certificates{now: time.Now}
	set, err := c.load(config.Config{TLS: config.TLS{Certificates: []config.Certificate{{Cert: path, Key: path}}}})
	if err != nil {
		t.Fatal(err)
	}
	c.use(set)
	alarms, first := alarmsSaid{}, handshake(t, c, "mx.example.net")
	look := func() *x509.Certificate {
		t.Helper()
		tick := make(chan time.Time)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.run(ctx, alarms, tick) }()
		tick <- time.Now()
		cancel()
		<-done
		return handshake(t, c, "mx.example.net")
	}
	if !look().Equal(first) || len(alarms) != 0 {
		t.Errorf("nothing changed, and %v", alarms)
	}
	write([]byte("-----BEGIN CERT"))
	if !look().Equal(first) || alarms[alarmTLS] == "" {
		t.Errorf("a bad file: another certificate, or no alarm: %v", alarms)
	}
	write(made())
	if look().Equal(first) || len(alarms) != 0 {
		t.Errorf("the new certificate is not shown: %v", alarms)
	}
}

// TestCertificateIsPickedByName: the client's SNI decides, and who sends none,
// or another, sees the first.
func TestCertificateIsPickedByName(t *testing.T) {
	dir := t.TempDir()
	var cfg config.Config
	for _, host := range []string{"one.example.net", "two.example.net"} {
		text, err := makeSelfSigned(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, host)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.TLS.Certificates = append(cfg.TLS.Certificates, config.Certificate{Cert: path, Key: path})
	}
	c := &certificates{now: time.Now}
	set, err := c.load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.use(set)
	for sni, want := range map[string]string{"two.example.net": "two.example.net", "one.example.net": "one.example.net", "else.example.net": "one.example.net", "": "one.example.net"} {
		if got := handshake(t, c, sni).Subject.CommonName; got != want {
			t.Errorf("a client of %q sees the certificate of %s, want %s", sni, got, want)
		}
	}
}

// tlsPipe is a connection with buffers, as TLS wants it for its last words.
func tlsPipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp4", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

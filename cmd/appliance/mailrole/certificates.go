package mailrole

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/record"
)

// certificates are what STARTTLS shows: those of the file, else a self-signed
// one that is made at the first start and kept, so that who pins it sees the
// same one after a restart.
type certificates struct {
	dir string
	now func() time.Time
	cur atomic.Pointer[certificateSet]
}

// certificateSet is one state of certificates, taken over as a whole.
type certificateSet struct {
	list       []tls.Certificate
	selfSigned string // the name it is for; "": they are the operator's
	files      []config.Certificate
	stamps     []time.Time // when each of the files was last changed, two a certificate
}

const (
	selfSignedLife = 5 * 365 * 24 * time.Hour
	renewBefore    = 30 * 24 * time.Hour
)

// load reads what a configuration asks for; nothing changes before use.
func (c *certificates) load(cfg config.Config) (*certificateSet, error) {
	if len(cfg.TLS.Certificates) == 0 {
		return c.selfSigned(cfg.Hostname)
	}
	return readCertificates(cfg.TLS.Certificates)
}

// readCertificates reads the operator's files.
func readCertificates(files []config.Certificate) (*certificateSet, error) {
	set := &certificateSet{files: files, stamps: stampsOf(files)} // before they are read: what changes meanwhile is read again
	for _, f := range files {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("load certificate %s: %w (the mail role's user must be able to read both files)", f.Cert, err)
		}
		set.list = append(set.list, pair)
	}
	return set, nil
}

// stampsOf is when files were changed; the zero time: they are not there.
func stampsOf(files []config.Certificate) (stamps []time.Time) {
	for _, f := range files {
		for _, path := range []string{f.Cert, f.Key} {
			var at time.Time
			if info, err := os.Stat(path); err == nil {
				at = info.ModTime()
			}
			stamps = append(stamps, at)
		}
	}
	return stamps
}

func (c *certificates) use(set *certificateSet) { c.cur.Store(set) }

// config is for smtp: which certificate is shown is decided at each handshake.
func (c *certificates) config(minVersion string) *tls.Config {
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.pick}
	if minVersion == "1.3" {
		t.MinVersion = tls.VersionTLS13
	}
	return t
}

// pick chooses by the client's SNI, else the first: a sender that knows our
// name by MX alone is happy with any.
func (c *certificates) pick(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := c.cur.Load().list
	for i := range list {
		if hello.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &list[0], nil
}

// describe says what is shown, and until when.
func (c *certificates) describe() string {
	set := c.cur.Load()
	leaf := set.list[0].Leaf
	what := fmt.Sprintf("%d of yours, the first", len(set.list))
	if set.selfSigned != "" {
		what = "self-signed"
	}
	return fmt.Sprintf("certificate %s for %s until %s", what, leaf.Subject.CommonName, leaf.NotAfter.Format(time.DateOnly))
}

// run renews the self-signed certificate in time, and reads the operator's again
// when their files change, as programs that renew them have it; tick says when to
// look. Files that cannot be used are an alarm, and what was read last is shown on.
func (c *certificates) run(ctx context.Context, alarms record.Alarms, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		set := c.cur.Load()
		next, err := c.renewed(set)
		switch {
		case err != nil:
			alarms.Alarm(alarmTLS, fmt.Sprintf("a new certificate is not used: %v: the one before is shown until %s", err, set.list[0].Leaf.NotAfter.Format(time.DateOnly)))
		case next != set:
			c.cur.CompareAndSwap(set, next)
			fallthrough
		default:
			alarms.Clear(alarmTLS, "the certificates are good")
		}
	}
}

const alarmTLS = "tls_certificate"

// renewed is the set that has to take the place of one; the same: none.
func (c *certificates) renewed(set *certificateSet) (*certificateSet, error) {
	switch {
	case set.selfSigned != "" && c.due(set.list[0].Leaf):
		return c.selfSigned(set.selfSigned)
	case set.selfSigned == "" && !slices.EqualFunc(set.stamps, stampsOf(set.files), time.Time.Equal):
		return readCertificates(set.files)
	}
	return set, nil
}

func (c *certificates) due(leaf *x509.Certificate) bool {
	return c.now().After(leaf.NotAfter.Add(-renewBefore))
}

// selfSigned returns the kept certificate for host, or makes one.
func (c *certificates) selfSigned(host string) (*certificateSet, error) {
	path := filepath.Join(c.dir, "self-signed.pem")
	pair, err := tls.LoadX509KeyPair(path, path)
	if err == nil && pair.Leaf.VerifyHostname(host) == nil && !c.due(pair.Leaf) {
		return &certificateSet{list: []tls.Certificate{pair}, selfSigned: host}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		os.Rename(path, path+settings.SetAside) // a damaged file is no reason not to start
	}
	text, err := makeSelfSigned(host, c.now())
	if err != nil {
		return nil, err
	}
	if err := config.WriteFile(path, text, 0o600, nil); err != nil {
		return nil, fmt.Errorf("keep the self-signed certificate: %w", err)
	}
	if pair, err = tls.X509KeyPair(text, text); err != nil {
		return nil, fmt.Errorf("read the self-signed certificate back: %w", err)
	}
	return &certificateSet{list: []tls.Certificate{pair}, selfSigned: host}, nil
}

// makeSelfSigned makes a key and its certificate, both as PEM in one text.
func makeSelfSigned(host string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(selfSignedLife), // clients' clocks differ
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), nil
}

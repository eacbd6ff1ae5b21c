package lab

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// OpenDKIMMilter is where the mail server of a host finds its opendkim, as
// smtpd_milters of Postfix wants it.
const OpenDKIMMilter = "inet:127.0.0.1:8891"

// OpenDKIMSigner starts opendkim on a host as a milter that signs for a domain
// with a key of the selector s1.
func (h *Host) OpenDKIMSigner(domain, key string) {
	h.lab.t.Helper()
	h.openDKIM(key, "Mode s", "Domain "+domain, "Selector s1", "KeyFile /etc/dkim.key", "Canonicalization relaxed/simple")
}

// OpenDKIMVerifier starts opendkim on a host as a milter that says in
// Authentication-Results, under a name, what it thinks of signatures.
func (h *Host) OpenDKIMVerifier(name string) {
	h.lab.t.Helper()
	h.openDKIM("", "Mode v", "AuthservID "+name, "AlwaysAddARHeader yes")
}

// openDKIM starts it with lines of opendkim.conf. It asks the lab's name server.
func (h *Host) openDKIM(key string, lines ...string) {
	h.lab.t.Helper()
	root := h.Root("opendkim", "opendkim")
	lines = append(lines, "Socket inet:8891@127.0.0.1", "Syslog no", "Nameservers "+h.lab.resolver.String(), "")
	err := os.WriteFile(root.Path("/etc/opendkim.conf"), []byte(strings.Join(lines, "\n")), 0o644)
	if err == nil {
		err = os.WriteFile(root.Path("/etc/dkim.key"), []byte(key), 0o600)
	}
	if err == nil {
		_, err = h.Start("opendkim", root.Command("/usr/sbin/opendkim", "-f", "-x", "/etc/opendkim.conf"))
	}
	if err != nil {
		h.lab.t.Fatalf("start opendkim: %v", err)
	}
	h.lab.Eventually(10*time.Second, "opendkim listens", func() bool {
		nc, err := h.Dial(h.lab.ctx, netip.MustParseAddrPort("127.0.0.1:8891"))
		if err != nil {
			return false
		}
		nc.Close()
		return true
	})
}

// DKIMKey makes a key for signatures (RFC 6376): a PEM file for who signs, and
// the TXT record that name has to have.
func DKIMKey(name string) (private, record string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", "", err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", "", err
	}
	p := base64.StdEncoding.EncodeToString(public)
	private = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return private, fmt.Sprintf(`%s TXT "v=DKIM1; k=rsa; p=%s" "%s"`, name, p[:200], p[200:]), nil
}

package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// peers are the configurations of the peers, and ours beside them.
//
//go:embed peers
var peers embed.FS

// site is the internet of a figure: the appliance and its peer, each in front
// of the same backend.
type site struct {
	*lab.Lab
	ns, office, client *lab.Host
	dns                *lab.DNS
	edge, peer         *lab.Host // ours and theirs

	weir    *lab.Weir
	postfix *lab.Postfix
}

// sources is where clients connect from.
var sources = netip.MustParsePrefix("198.18.0.0/16")

func newSite(b *testing.B) *site {
	b.Helper()
	s := &site{Lab: lab.New(b)}
	s.ns = s.Host("ns", "192.0.2.53")
	s.dns = s.ns.DNS(
		"example.com. MX 10 mx1.example.com.",
		"mx1.example.com. A 192.0.2.25",
		"mx2.example.com. A 192.0.2.26",
		"office.example.com. A 192.0.2.10",
		"sender.example. MX 10 client.sender.example.",
		"client.sender.example. A 198.18.0.1",
	)
	s.office = s.Host("office", "192.0.2.10")
	s.client = s.Host("client", sources.String())
	s.edge = s.Host("mx1", "192.0.2.25")
	s.peer = s.Host("mx2", "192.0.2.26")
	return s
}

// patience is how long anything may take that is not under load. go test takes
// its time limit back while a benchmark runs: what waits ends by itself.
const patience = time.Minute

// patient ends after that, or with the benchmark.
func patient(b *testing.B) context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	b.Cleanup(cancel)
	return ctx
}

// status reads what weir status says.
func (s *site) status(b *testing.B, into any) {
	b.Helper()
	out, err := s.weir.Cmd(patient(b), "status", "--json") // its exit status is 1 while an alarm stands
	if json.Unmarshal([]byte(out), into) != nil {
		b.Fatalf("weir status: %v: %s", err, out)
	}
}

func smtpPort(h *lab.Host) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), 25) }

// ours starts the appliance with a file of peers/.
func (s *site) ours(b *testing.B, config string) side {
	b.Helper()
	s.weir = s.edge.Weir(peerFile(b, config))
	version, err := s.weir.Cmd(patient(b), "version")
	if err != nil {
		b.Fatal(err)
	}
	_, with, _ := strings.Cut(strings.TrimSpace(version), "built with ")
	return side{"weir, " + with, s.edge}
}

// theirs starts Postfix with a file of peers/ for its main.cf; master.cf is
// Debian's unless one is given.
func (s *site) theirs(b *testing.B, config string, master ...string) side {
	b.Helper()
	files := map[string]string{
		"main.cf":          peerFile(b, config),
		"relay_recipients": recipients(" OK"),
		"certificate.pem":  certificate(b),
	}
	for _, name := range master {
		files["master.cf"] = peerFile(b, name)
	}
	s.postfix = s.peer.Postfix(lab.PostfixOptions{Files: files, Tables: []string{"hash:/etc/postfix/relay_recipients"}})
	return side{postfixVersion(b, s.postfix), s.peer}
}

func postfixVersion(b *testing.B, p *lab.Postfix) string {
	b.Helper()
	version, err := p.Command("postconf", "-hd", "mail_version")
	if err != nil {
		b.Fatal(err)
	}
	return "Postfix " + strings.TrimSpace(version)
}

func peerFile(b *testing.B, name string) string {
	b.Helper()
	text, err := peers.ReadFile("peers/" + name)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// recipients is a list of those who exist, a line each.
func recipients(after string) string {
	var list strings.Builder
	list.WriteString("anna@example.com" + after + "\n")
	for i := range 999 {
		fmt.Fprintf(&list, "user%d@example.com%s\n", i, after)
	}
	return list.String()
}

// writeRecipients gives the edge the list of those who exist.
func (s *site) writeRecipients(b *testing.B) {
	b.Helper()
	if err := os.WriteFile(s.edge.Path("/etc/recipients"), []byte(recipients("")), 0o644); err != nil {
		b.Fatal(err)
	}
}

// certificate is a key and a certificate as the appliance makes them for itself
// on its first start, so that STARTTLS is offered on both sides.
func certificate(b *testing.B) string {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	name := pkix.Name{CommonName: "mx2.example.com"}
	from := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name, DNSNames: []string{name.CommonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, from, from, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	for _, block := range []pem.Block{{Type: "PRIVATE KEY", Bytes: secret}, {Type: "CERTIFICATE", Bytes: cert}} {
		if err := pem.Encode(&out, &block); err != nil {
			b.Fatal(err)
		}
	}
	return out.String()
}

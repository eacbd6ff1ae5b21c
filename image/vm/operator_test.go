//go:build image

package vm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// operator makes the key of anna, who comes from outside.
func (s *site) operator() {
	s.t.Helper()
	if out, err := s.out.Run(within(s.t, time.Minute), "/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", "/root/key"); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	key, err := os.ReadFile(s.out.Path("/root/key.pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.key = strings.TrimSpace(string(key))
}

// ssh has anna say one command, with input.
func (s *site) ssh(input string, command ...string) (string, error) {
	s.t.Helper()
	cmd := s.out.Command("ssh", append([]string{"-i", "/root/key", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "anna@" + edgeAddr.String()}, command...)...)
	cmd.Path = "/usr/bin/ssh"
	cmd.Stdin = strings.NewReader(input)
	return s.out.RunCommand(within(s.t, 3*time.Minute), cmd)
}

// operates has anna do by SSH what operators do, and not do what they may not.
func (s *site) operates() {
	s.t.Helper()
	if out, err := s.ssh("", "status"); !strings.Contains(out, "mx1.example.com") {
		s.t.Errorf("weir status by SSH: %v: %s", err, out)
	}
	for _, no := range []string{"sh", "bans; id", "check -c /etc/shadow", "system load /etc/shadow", "guard"} {
		if out, err := s.ssh("", no); err == nil || strings.Contains(out, "uid=") || strings.Contains(out, "root:") {
			s.t.Errorf("an operator may say %q: %s", no, out)
		}
	}
	ca, err := os.ReadFile(s.log.Path("/etc/collector/ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	config := s.seed() + "\n[syslog.siem]\ntarget = \"tls://192.0.2.20:6514\"\nca = \"/etc/mailweir/ca.pem\"\n"
	for _, step := range []struct {
		input   string
		command []string
	}{{string(ca), []string{"system", "put", "ca.pem"}}, {config, []string{"system", "load", "-"}}, {"", []string{"reload"}}} {
		if out, err := s.ssh(step.input, step.command...); err != nil {
			s.t.Errorf("%q by SSH: %v: %s", step.command, err, out)
		}
	}
}

// collector is a real rsyslog that takes RFC 5424 over TLS.
const collectorConf = `
global(workDirectory="/var/lib" maxMessageSize="64k" defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="/etc/collector/ca.pem"
	defaultNetstreamDriverCertFile="/etc/collector/cert.pem" defaultNetstreamDriverKeyFile="/etc/collector/key.pem")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="6514" ruleset="in")
template(name="raw" type="string" string="%rawmsg%\n")
ruleset(name="in") { action(type="omfile" file="/var/log/collected" template="raw") }
`

func (s *site) collector() {
	s.t.Helper()
	s.log = s.Host("log", "192.0.2.20")
	if err := os.MkdirAll(s.log.Path("/etc/collector"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	for name, text := range certificates(s.t, net.IPv4(192, 0, 2, 20)) {
		if err := os.WriteFile(s.log.Path("/etc/collector/"+name), text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.log.Path("/etc/collector/conf"), []byte(collectorConf), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.logged = s.log.Path("/var/log/collected")
	cmd := s.log.Command("/usr/sbin/rsyslogd", "-n", "-f", "/etc/collector/conf", "-i", "/run/collector.pid")
	if _, err := s.log.Start("rsyslogd", cmd); err != nil {
		s.t.Fatal(err)
	}
}

// collected waits until the collector has all of these words.
func (s *site) collected(words ...string) {
	s.t.Helper()
	for _, w := range words {
		s.Eventually(3*time.Minute, fmt.Sprintf("the collector has %q", w), func() bool {
			b, _ := os.ReadFile(s.logged)
			return strings.Contains(string(b), w)
		})
	}
}

// transactions is how many the collector knows.
func (s *site) transactions() int {
	b, _ := os.ReadFile(s.logged)
	return strings.Count(string(b), " TRANSACTION ")
}

// certificates are an authority and a collector's certificate.
func certificates(t interface{ Fatal(...any) }, ip net.IP) map[string][]byte {
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, ownKey := key(), key()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign}
	own := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "collector"}, IPAddresses: []net.IP{ip},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	ownDER, err := x509.CreateCertificate(rand.Reader, own, ca, ownKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ownKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return map[string][]byte{"ca.pem": encode("CERTIFICATE", caDER), "cert.pem": encode("CERTIFICATE", ownDER), "key.pem": encode("PRIVATE KEY", pkcs8)}
}

package syslog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rsyslog is a real collector on loopback, of this test alone.
type rsyslog struct {
	addr string // 127.0.0.1:port
	out  string // a JSON object a line for each message
	args []string
	cmd  *exec.Cmd
	said strings.Builder
}

// rsyslogConf parses structured data with rsyslog's own parser and writes what
// it understood.
const rsyslogConf = `
global(workDirectory="%[1]s" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="on" %[3]s)
module(load="mmpstrucdata")
module(load="imtcp" %[4]s)
module(load="imudp")
input(type="imtcp" address="127.0.0.1" port="%[2]s" ruleset="in")
input(type="imudp" address="127.0.0.1" port="%[2]s" ruleset="in")
template(name="parsed" type="list" option.jsonf="on") {
	property(outname="pri" name="pri" format="jsonf")
	property(outname="protocol" name="protocol-version" format="jsonf")
	property(outname="host" name="hostname" format="jsonf")
	property(outname="app" name="app-name" format="jsonf")
	property(outname="proc" name="procid" format="jsonf")
	property(outname="id" name="msgid" format="jsonf")
	property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
	property(outname="msg" name="msg" format="jsonf")
	property(outname="sd" name="$!rfc5424-sd" format="jsonf")
}
ruleset(name="in") {
	action(type="mmpstrucdata" sd_name.lowercase="off")
	action(type="omfile" file="%[1]s/out" template="parsed")
}
`

// startRsyslog runs rsyslogd until the test ends; global and module are
// further settings.
func startRsyslog(t *testing.T, global, module string) *rsyslog {
	t.Helper()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Skip("rsyslogd is not installed (packages rsyslog and rsyslog-openssl; scripts/deps does)")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	r := &rsyslog{addr: l.Addr().String(), out: filepath.Join(dir, "out")}
	_, port, _ := net.SplitHostPort(r.addr)
	l.Close()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, rsyslogConf, dir, port, global, module), 0o600); err != nil {
		t.Fatal(err)
	}
	r.args = []string{"-n", "-f", conf, "-i", filepath.Join(dir, "pid")}
	r.start(t)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("rsyslogd said: %s", r.said.String())
		}
	})
	return r
}

func (r *rsyslog) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command("rsyslogd", r.args...)
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "rsyslogd", func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill is kill -9.
func (r *rsyslog) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// received is what rsyslog understood of a message.
type received struct {
	PRI      string                       `json:"pri"`
	Protocol string                       `json:"protocol"`
	Host     string                       `json:"host"`
	App      string                       `json:"app"`
	Proc     string                       `json:"proc"`
	ID       string                       `json:"id"`
	Time     string                       `json:"time"`
	Msg      string                       `json:"msg"`
	Raw      string                       `json:"sd"`
	SD       map[string]map[string]string `json:"-"` // of Raw, which is JSON again
}

// wait returns the messages once there are n.
func (r *rsyslog) wait(t *testing.T, n int) (all []received) {
	t.Helper()
	var lines []string
	waitFor(t, fmt.Sprintf("%d messages at rsyslogd", n), func() bool {
		b, _ := os.ReadFile(r.out)
		lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		return strings.Count(string(b), "\n") >= n
	})
	for _, line := range lines {
		var m received
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("rsyslogd wrote %q: %v", line, err)
		}
		if err := json.Unmarshal([]byte(m.Raw), &m.SD); err != nil {
			t.Fatalf("rsyslogd understood %q: %v", m.Raw, err)
		}
		all = append(all, m)
	}
	return all
}

// nasty are the values that a stranger may choose.
var nasty = []string{
	"mail.sender.example", "", `a "quoted" ] and \ back`, `ends in \`, `é ☃ 𝄞`, `[mailweir@32473 forged="1"]`, strings.Repeat("é", maxValue/2),
}

func checkReceived(t *testing.T, r *rsyslog, url, ca string) {
	t.Helper()
	e, _ := exporter(t, Options{Target: Target{URL: url, CA: ca}})
	for _, v := range nasty {
		e.Send(&Message{Severity: Notice, Time: at, ID: "RCPT", Text: "recipient refused", Params: []Param{{"reason", "unknown_user"}, {"helo", v}}})
	}
	got := r.wait(t, len(nasty))
	if len(got) != len(nasty) {
		t.Errorf("%d messages arrived, %d were sent", len(got), len(nasty))
	}
	for i, v := range nasty {
		m := got[i]
		sd := m.SD[SDID]
		if m.PRI != "21" || m.Protocol != "1" || m.Host != "mx1.example.net" || m.App != "mailweir" || m.Proc != "mail" ||
			m.ID != "RCPT" || m.Time != "2026-11-22T08:30:00.123Z" || strings.TrimSpace(m.Msg) != "recipient refused" {
			t.Errorf("header %d arrived as %+v", i, m)
		}
		if sd["helo"] != v || sd["reason"] != "unknown_user" || len(sd) != 2 {
			t.Errorf("value %q arrived as %q of %v", v, sd["helo"], sd)
		}
		if m.SD["meta"]["sequenceId"] != fmt.Sprint(i+1) {
			t.Errorf("message %d arrived with %v", i, m.SD["meta"])
		}
	}
}

// R-MC-07: RFC 5424 with structured data, over TCP, as rsyslog understands it.
func TestRsyslogTCP(t *testing.T) {
	r := startRsyslog(t, "", "")
	checkReceived(t, r, "tcp://"+r.addr, "")
}

// R-MC-07: over UDP, and with nobody there at first: what was sent into the void
// is sent again.
func TestRsyslogUDP(t *testing.T) {
	r := startRsyslog(t, "", "")
	r.kill()
	away := make(chan error, 100)
	e, _ := exporter(t, Options{Target: Target{URL: "udp://" + r.addr}, Report: func(err error) {
		if err != nil {
			away <- err
		}
	}})
	for i := range 10 {
		e.Send(event(i))
	}
	<-away
	r.start(t)
	got := r.wait(t, 10)
	for i, m := range got {
		if m.SD[SDID]["n"] != fmt.Sprint(i) || m.SD["meta"]["sequenceId"] != fmt.Sprint(i+1) {
			t.Errorf("message %d arrived as %+v", i, m)
		}
	}
}

// R-MC-07: the same over TLS, with the collector's name checked.
func TestRsyslogTLS(t *testing.T) {
	dir := t.TempDir()
	ca, other := newCA(t, dir, "ca"), newCA(t, dir, "other")
	ca.issue(t, "localhost", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	r := startRsyslog(t,
		fmt.Sprintf(`defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem"`, dir),
		`streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"`)
	_, port, _ := net.SplitHostPort(r.addr)
	refused := func(why, url, ca string) {
		t.Helper()
		reports := make(chan error, 1)
		e, _ := exporter(t, Options{Target: Target{URL: url, CA: ca}, Report: func(err error) { reports <- err }})
		e.Send(event(1))
		if err := <-reports; err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s with %s: %v, want an error on %q", url, ca, err, why)
		}
	}
	refused("unknown authority", "tls://localhost:"+port, other.file)
	refused("127.0.0.1", "tls://127.0.0.1:"+port, ca.file) // the certificate is for the name
	checkReceived(t, r, "tls://localhost:"+port, ca.file)
}

// authority is a CA of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newCA(t *testing.T, dir, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{cert, key, filepath.Join(dir, name+".pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func (a authority) issue(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

package settings

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"mailweir/config"
	"mailweir/geo"
	"mailweir/record/syslog"
	"mailweir/smtp/relay"
)

// Problems are those of a well-formed file on this machine: each part is
// opened as the roles will open it, and the error that they would die of is
// told at its place in the file.
func Problems(f *config.File, cfg config.Config) config.Problems {
	m := machine{file: f, cfg: cfg}
	m.hostname()
	m.users()
	m.interfaces()
	for _, c := range cfg.TLS.Certificates {
		m.certificate(c)
	}
	for _, b := range cfg.Backends {
		m.backend(b)
	}
	for _, d := range cfg.Domains {
		m.recipients(d)
	}
	for _, s := range cfg.Syslog {
		m.collector(s)
	}
	m.databases()
	m.geoRules("geo.drop", m.cfg.Geo.Drop)
	m.geoRules("geo.ban", m.cfg.Geo.Ban)
	return m.problems
}

// machine gathers problems.
type machine struct {
	file     *config.File
	cfg      config.Config
	mail     *syscall.Credential // nil: there is no such user
	problems config.Problems
}

func (m *machine) bad(at, what, hint string) {
	m.problems = append(m.problems, m.file.Problem(at, what, hint))
}

// badError takes an error of ours, which ends with what to do behind its last
// semicolon or colon.
func (m *machine) badError(at string, err error) {
	text := err.Error()
	for _, sep := range []string{"; ", ": "} {
		if i := strings.LastIndex(text, sep); i >= 0 {
			m.bad(at, text[:i], text[i+len(sep):])
			return
		}
	}
	m.bad(at, text, "see the manual")
}

// hostname warns of a name that stands in for one nobody has set.
func (m *machine) hostname() {
	if strings.HasSuffix(m.cfg.Hostname, ".invalid") {
		m.problems = append(m.problems, m.file.Warning("hostname", m.cfg.Hostname+" is no real name, and every greeting and Received header has it",
			"write the name that this machine has in the DNS, such as mx1.example.com"))
	}
}

// users warns only: the file may be checked on another machine than the one
// that it is for.
func (m *machine) users() {
	user, err := LookupUser(m.cfg.Users.Mail)
	if err != nil {
		what, hint, _ := strings.Cut(err.Error(), ": ")
		m.problems = append(m.problems, m.file.Warning("users.mail", what, hint))
		return
	}
	m.mail = user
}

func (m *machine) interfaces() {
	for _, name := range m.cfg.Firewall.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			m.problems = append(m.problems, m.file.Warning("firewall.interfaces", "there is no interface "+name+" now",
				"it is taken as soon as it comes; ip -br link shows those that are there"))
		}
	}
}

func (m *machine) certificate(c config.Certificate) {
	const at = "tls.certificates"
	if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		m.bad(at, fmt.Sprintf("certificate %s cannot be used: %v", c.Cert, err), "name the files of a certificate and of its key, in PEM")
		return
	}
	m.readable(at, c.Cert)
	m.readable(at, c.Key)
}

// readable holds that the mail role may read a file. Root asks the kernel as
// that user, so that folders, groups and ACLs count as they will.
func (m *machine) readable(at, path string) {
	if m.mail == nil || os.Geteuid() != 0 {
		return
	}
	ask := exec.Command("test", "-r", path)
	ask.Dir = "/"
	ask.SysProcAttr = &syscall.SysProcAttr{Credential: m.mail}
	if _, no := ask.Run().(*exec.ExitError); no {
		m.bad(at, fmt.Sprintf("the mail role may not read %s", path),
			fmt.Sprintf("it runs as %s: chgrp %[1]s %[2]s && chmod 640 %[2]s, in a folder that it may enter", m.cfg.Users.Mail, path))
	}
}

// backend finds a URL that cannot be used, and a route that leads back to
// ourselves: mail would go round until it has fifty Received headers.
func (m *machine) backend(b config.Backend) {
	at := config.Path("backend", b.Name, "url")
	u, err := relay.ParseURL(b.URL)
	if err != nil {
		m.badError(at, err)
		return
	}
	if err := relay.TLSMode(b.TLS).Check(u); err != nil {
		m.badError(config.Path("backend", b.Name, "tls"), err)
	}
	if u.Network == "tcp" && m.leadsHere(u) {
		m.bad(at, u.Address()+" is our own SMTP port: mail would go round in a loop", "name the mail server behind")
	} else if u.Network == "tcp" && u.Host == m.cfg.Hostname && slices.ContainsFunc(m.cfg.SMTP.Listen, func(l netip.AddrPort) bool { return fmt.Sprint(l.Port()) == u.Port }) {
		m.problems = append(m.problems, m.file.Warning(at, u.Address()+" has our own name: where that leads here, mail goes round in a loop",
			"name the mail server behind, or its address"))
	}
}

// leadsHere says whether u is one of smtp.listen.
func (m *machine) leadsHere(u relay.URL) bool {
	for _, l := range m.cfg.SMTP.Listen {
		if fmt.Sprint(l.Port()) != u.Port {
			continue
		}
		if l.Addr().String() == u.Host || u.Host == "localhost" || l.Addr().IsUnspecified() && isOwn(u.Host) {
			return true
		}
	}
	return false
}

// isOwn says whether host is an address of this machine.
func isOwn(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	own, _ := net.InterfaceAddrs()
	return a.IsLoopback() || slices.ContainsFunc(own, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a.Unmap()
	})
}

func (m *machine) recipients(d config.Domain) {
	if d.Recipients.From != config.FromFile {
		return
	}
	at := config.Path("domain", d.Name, "recipients")
	if _, err := relay.OpenList(d.Recipients.Path, d.Name); err != nil {
		m.bad(at, err.Error(), "write one address a line, # before a comment")
		return
	}
	m.readable(at, d.Recipients.Path)
}

func (m *machine) collector(s config.Syslog) {
	if _, err := syslog.New(syslog.Options{Target: syslog.Target{URL: s.Target, CA: s.CA}}); err != nil {
		m.badError(config.Path("syslog", s.Name, "target"), err)
		return
	}
	if s.CA != "" {
		m.readable(config.Path("syslog", s.Name, "ca"), s.CA)
	}
}

func (m *machine) databases() {
	for at, path := range map[string]string{"geo.database": m.cfg.Geo.Database, "geo.asn": m.cfg.Geo.ASN} {
		if path == "" {
			continue
		}
		if _, err := geo.Open(path, ""); err != nil {
			m.badError(at, err)
			continue
		}
		m.readable(at, path)
	}
}

// geoRules finds countries that there are not, and networks that nothing can
// tell.
func (m *machine) geoRules(at string, rules []string) {
	for _, s := range rules {
		r, err := geo.ParseRule(s)
		if err != nil {
			m.badError(at, err)
		} else if r.ASN != 0 && m.cfg.Geo.ASN == "" {
			m.bad(at, s+" is a network, and there is no database of networks", "set geo.asn to one in MaxMind's format, such as GeoLite2-ASN or DB-IP's ASN Lite")
		}
	}
}

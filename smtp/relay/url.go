package relay

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

// TLSMode says how far a backend's connection must be encrypted.
type TLSMode string

// The modes.
const (
	TLSOff           TLSMode = "off"
	TLSOpportunistic TLSMode = "opportunistic" // any certificate will do; where TLS fails, in clear, and status says so
	TLSRequired      TLSMode = "required"      // the certificate is verified; never in clear
)

// URL is where a backend is.
type URL struct {
	Scheme  string // "smtp", "smtps", "lmtp" or "maildir"
	Network string // "tcp" or "unix"; "" for a maildir
	Host    string // for tcp; the name that its certificate must carry
	Port    string // for tcp
	Path    string // of the socket or the maildir, absolute
}

// ParseURL reads smtp://host[:25], smtps://host[:465], lmtp://host:port,
// lmtp+unix:///path and maildir:/path.
func ParseURL(s string) (URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return URL{}, fmt.Errorf("read backend URL %q: it is malformed; write smtp://host:25, smtps://host:465, lmtp+unix:///path or maildir:/path", s)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return URL{}, fmt.Errorf("read backend URL of scheme %q: user, password, query and fragment have no meaning here, leave them out", u.Scheme)
	}
	switch u.Scheme {
	case "smtp":
		return tcpURL(s, u, "25")
	case "smtps":
		return tcpURL(s, u, "465")
	case "lmtp":
		return tcpURL(s, u, "")
	case "lmtp+unix":
		return pathURL(s, u, URL{Scheme: "lmtp", Network: "unix"})
	case "maildir":
		return pathURL(s, u, URL{Scheme: "maildir"})
	}
	return URL{}, fmt.Errorf("read backend URL %q: unknown scheme %q; write smtp, smtps, lmtp, lmtp+unix or maildir", s, u.Scheme)
}

func tcpURL(s string, u *url.URL, port string) (URL, error) {
	if u.Port() != "" {
		port = u.Port()
	}
	switch {
	case u.Hostname() == "" || strings.Contains(u.Hostname(), ":") && !isIP(u.Hostname()):
		return URL{}, fmt.Errorf("read backend URL %q: no host; write %s://host:port", s, u.Scheme)
	case port == "":
		return URL{}, fmt.Errorf("read backend URL %q: LMTP has no port of its own; write lmtp://host:port", s)
	case u.Path != "" && u.Path != "/":
		return URL{}, fmt.Errorf("read backend URL %q: a path has no meaning here; write %s://host:port", s, u.Scheme)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return URL{}, fmt.Errorf("read backend URL %q: bad port %q; write a number from 1 to 65535", s, port)
	}
	return URL{Scheme: u.Scheme, Network: "tcp", Host: strings.ToLower(u.Hostname()), Port: port}, nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func pathURL(s string, u *url.URL, to URL) (URL, error) {
	to.Path = u.Path
	if u.Host != "" || !filepath.IsAbs(to.Path) {
		return URL{}, fmt.Errorf("read backend URL %q: want an absolute path; write lmtp+unix:///path or maildir:/path", s)
	}
	to.Path = filepath.Clean(to.Path)
	return to, nil
}

// Address is what net.Dial takes.
func (u URL) Address() string {
	if u.Network == "unix" {
		return u.Path
	}
	return net.JoinHostPort(u.Host, u.Port)
}

// String writes u as ParseURL reads it.
func (u URL) String() string {
	switch {
	case u.Scheme == "maildir":
		return "maildir:" + u.Path
	case u.Network == "unix":
		return "lmtp+unix://" + u.Path
	}
	return u.Scheme + "://" + u.Address()
}

// Check says whether mode can be had with u.
func (m TLSMode) Check(u URL) error {
	switch m {
	case TLSOff, TLSOpportunistic, TLSRequired:
	default:
		return fmt.Errorf("unknown TLS mode %q; write off, opportunistic or required", m)
	}
	switch {
	case u.Scheme == "smtps" && m == TLSOff:
		return fmt.Errorf("backend %v is TLS from its first byte, tls = \"off\" contradicts it; write smtp:// or another mode", u)
	case u.Network != "tcp" && m == TLSRequired:
		return fmt.Errorf("backend %v is on this machine and has no TLS; write tls = \"off\"", u)
	}
	return nil
}

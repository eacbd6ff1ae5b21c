package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// The rules below narrow the values of single keys. Each gets what place
// returned and answers with what is wrong and what to write, or "".

func between[T cmp.Ordered](low, high T) func(any) (string, string) {
	return func(v any) (what, hint string) {
		if n := *v.(*T); n < low || n > high {
			return fmt.Sprintf("%v is out of range", show(n)), fmt.Sprintf("write %v to %v", show(low), show(high))
		}
		return "", ""
	}
}

// keeps narrows how long records are kept: without an end, or with one that
// somebody can live to see.
func keeps(v any) (what, hint string) {
	if *v.(*Retention) == Forever {
		return "", ""
	}
	what, hint = between(Retention(time.Hour), Retention(3650*day))(v)
	if what != "" {
		hint += `, or "forever"`
	}
	return what, hint
}

// show writes a value as the file has it.
func show(v any) string {
	if d, ok := v.(time.Duration); ok {
		return formatDuration(d)
	}
	return fmt.Sprint(v)
}

func oneOf(words ...string) func(any) (string, string) {
	return func(v any) (what, hint string) {
		s := *v.(*string)
		if slices.Contains(words, s) {
			return "", ""
		}
		hint = "write " + list(words)
		if near := nearest(s, words); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return fmt.Sprintf("%q is none of the words that may stand here", s), hint
	}
}

func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func notEmpty(v any) (what, hint string) {
	switch v := v.(type) {
	case *string:
		if *v == "" {
			return "is empty", "write a value or take the line out"
		}
	case *[]string:
		if len(*v) == 0 {
			return "names nothing", "name at least one"
		}
	}
	return "", ""
}

func absolute(v any) (what, hint string) {
	if s := *v.(*string); !filepath.IsAbs(s) {
		return fmt.Sprintf("%q is no absolute path", s), "begin it with /"
	}
	return "", ""
}

func emptyOrAbsolute(v any) (what, hint string) {
	if *v.(*string) == "" {
		return "", ""
	}
	return absolute(v)
}

// emptyOrMailbox wants an address; its domain is looked at in check.
func emptyOrMailbox(v any) (what, hint string) {
	s := v.(*string)
	if *s == "" {
		return "", ""
	}
	local, domain, at := strings.Cut(*s, "@")
	name, err := DomainName(domain)
	dots := strings.Contains("."+local+".", "..")
	if !at || dots || len(local) > 64 || err != nil || strings.ContainsFunc(local, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`<>()[]\,;:"@`, r)
	}) {
		return fmt.Sprintf("%q is no address", *s), "write one such as abuse-reports@example.com"
	}
	*s = local + "@" + name
	return "", ""
}

// fullName wants a name that other servers accept in EHLO (RFC 5321 section
// 2.3.5): fully qualified, letters, digits and hyphens.
func fullName(v any) (what, hint string) {
	s := v.(*string)
	name, err := DomainName(*s)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is no host name", *s), "write letters, digits, hyphens and dots, such as mx1.example.net"
	case !strings.Contains(name, "."):
		return fmt.Sprintf("%q is not fully qualified", *s), "write the whole name, such as " + name + ".example.net"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Sprintf("%q is an address, not a name", *s), "write the name that it resolves to"
	}
	*s = name
	return "", ""
}

// DomainName returns the canonical form of a domain name: lower case, A-labels
// (RFC 5891), no final dot.
func DomainName(s string) (string, error) {
	return idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
}

func someListeners(v any) (what, hint string) {
	ls := *v.(*[]netip.AddrPort)
	if len(ls) == 0 {
		return "nothing to listen on", `write ["0.0.0.0:25", "[::]:25"]`
	}
	for i, l := range ls {
		if slices.Contains(ls[:i], l) {
			return fmt.Sprintf("%v is there twice", l), "keep one of them"
		}
		if l.Port() == 0 {
			return fmt.Sprintf("%v has no port", l.Addr()), fmt.Sprintf("write %q", netip.AddrPortFrom(l.Addr(), 25))
		}
	}
	return "", ""
}

// dnsPort is where resolvers listen.
const dnsPort = 53

// resolvers gives those without a port the usual one.
func resolvers(v any) (what, hint string) {
	for i, a := range *v.(*[]netip.AddrPort) {
		if a.Addr().IsUnspecified() {
			return fmt.Sprintf("%v is nobody's address", a.Addr()), "write the address of a resolver, such as 127.0.0.1"
		}
		if a.Port() == 0 {
			(*v.(*[]netip.AddrPort))[i] = netip.AddrPortFrom(a.Addr(), dnsPort)
		}
	}
	return "", ""
}

// interfaceNames holds what the kernel takes for the name of an interface.
// notInInterfaceName tells what the kernel takes in no name, what would end a
// line of systemd.network(5), and what would be a pattern there.
func notInInterfaceName(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune("/:*?[]!", r)
}

func interfaceNames(v any) (what, hint string) {
	for _, n := range *v.(*[]string) {
		if n == "" || len(n) > 15 || strings.ContainsFunc(n, notInInterfaceName) || n == "." || n == ".." {
			return fmt.Sprintf("%q is no name of an interface", n), "ip -br link shows them"
		}
	}
	return "", ""
}

// emptyOrHostPort wants an address of this machine and a port.
func emptyOrHostPort(v any) (what, hint string) {
	s := *v.(*string)
	if a, err := netip.ParseAddrPort(s); s != "" && (err != nil || a.Port() == 0) {
		return fmt.Sprintf("%q is no address and port", s), "write an address of this machine and a port, such as 127.0.0.1:9125"
	}
	return "", ""
}

func syslogTarget(v any) (what, hint string) {
	s := *v.(*string)
	u, err := url.Parse(s)
	hint = "write tls://host:6514, tcp://host:601, udp://host:514 or unix:///dev/log"
	if err != nil {
		return fmt.Sprintf("%q is no target", s), hint
	}
	switch u.Scheme {
	case "udp", "tcp", "tls":
		if _, _, err := net.SplitHostPort(u.Host); err != nil || u.Hostname() == "" || u.Path != "" {
			return fmt.Sprintf("%q does not name a host and a port", s), hint
		}
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return fmt.Sprintf("%q does not name a socket", s), hint
		}
	default:
		return fmt.Sprintf("%q is no target", s), hint
	}
	return "", ""
}

// trapNames wants addresses, patterns of them with * and ?, or domains.
func trapNames(v any) (what, hint string) {
	for _, s := range *v.(*[]string) {
		_, domain, at := strings.Cut(s, "@")
		if !at {
			domain = s
		}
		_, err := path.Match(s, "")
		if domain == "" || strings.ContainsAny(s, " \t\r\n<>,;/") || strings.Contains(domain, "@") || err != nil {
			return fmt.Sprintf("%q is no spamtrap", s), "write trap@example.com, old-*@example.com, or trap.example.com for a whole domain"
		}
	}
	return "", ""
}

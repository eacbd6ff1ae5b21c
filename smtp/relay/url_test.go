package relay

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	good := map[string]string{
		"smtp://mail.example.com:25":       "smtp://mail.example.com:25",
		"smtp://Mail.Example.com":          "smtp://mail.example.com:25",
		"smtp://[2001:db8::1]:2525":        "smtp://[2001:db8::1]:2525",
		"smtps://mail.example.com":         "smtps://mail.example.com:465",
		"lmtp://127.0.0.1:24":              "lmtp://127.0.0.1:24",
		"lmtp+unix:///run/dovecot/lmtp":    "lmtp+unix:///run/dovecot/lmtp",
		"maildir:/var/mail/../mail/weir/":  "maildir:/var/mail/weir",
		"maildir:///var/mail/with%20space": "maildir:/var/mail/with space",
	}
	for in, want := range good {
		if u, err := ParseURL(in); err != nil || u.String() != want {
			t.Errorf("%s: %v, %v, want %s", in, u, err, want)
		}
	}
	for _, bad := range []string{
		"", "mail.example.com:25", "smtp://", "smtp://:25", "smtp://h:port", "smtp://h:99999", "smtp://u:p@h", "smtp://h/path", "smtp://h?x=1",
		"lmtp://h", "lmtp+unix://run/lmtp", "lmtp+unix:relative", "maildir:relative", "maildir://host/path", "http://h", "smtp://h:25:25", "smtp://%zz",
	} {
		if u, err := ParseURL(bad); err == nil {
			t.Errorf("%q was taken as %v", bad, u)
		} else if strings.Contains(err.Error(), ":p@") {
			t.Errorf("%q: the error repeats a password: %v", bad, err)
		}
	}
}

func TestTLSModeCheck(t *testing.T) {
	for url, modes := range map[string][2]TLSMode{
		"smtp://h":          {TLSRequired, "maybe"},
		"smtps://h":         {TLSOpportunistic, TLSOff},
		"lmtp+unix:///sock": {TLSOff, TLSRequired},
	} {
		u, err := ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		if err := modes[0].Check(u); err != nil {
			t.Errorf("%s with %s: %v", url, modes[0], err)
		}
		if err := modes[1].Check(u); err == nil {
			t.Errorf("%s was taken with %s", url, modes[1])
		}
	}
}

type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := n[host]; ok {
		return a, nil
	}
	return nil, errors.New("no such host")
}

// TestLeadsToSelf: such a route is refused at start (smtp-filter §6.7).
func TestLeadsToSelf(t *testing.T) {
	local := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("2001:db8::1")}
	all := []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:25"), netip.MustParseAddrPort("[::]:25")}
	one := []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:25")}
	dns := names{
		"mx1.example.net":  {netip.MustParseAddr("198.51.100.1")},
		"mail.example.net": {netip.MustParseAddr("198.51.100.2")},
		"both.example.net": {netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("::ffff:198.51.100.1")},
	}
	tests := []struct {
		url    string
		listen []netip.AddrPort
		self   bool
	}{
		{"smtp://mx1.example.net", all, true},
		{"smtp://mx1.example.net", one, true},
		{"smtp://mx1.example.net:2525", all, false},
		{"smtp://mail.example.net", all, false},
		{"smtp://both.example.net", one, true},
		{"smtp://127.0.0.1", all, true},
		{"smtp://127.0.0.1", one, false},
		{"smtp://127.0.0.2", all, true},
		{"smtp://[::1]", all, true},
		{"smtp://[2001:db8::1]", all, true},
		{"smtp://[2001:db8::2]", all, false},
		{"lmtp+unix:///sock", all, false},
		{"maildir:/var/mail", all, false},
	}
	for _, c := range tests {
		u, err := ParseURL(c.url)
		if err != nil {
			t.Fatal(err)
		}
		err = LeadsToSelf(t.Context(), u, c.listen, local, dns)
		if errors.Is(err, ErrLeadsToSelf) != c.self || err != nil && !c.self {
			t.Errorf("%s, listening on %v: %v", c.url, c.listen, err)
		}
	}
	u, _ := ParseURL("smtp://nowhere.example.net")
	if err := LeadsToSelf(t.Context(), u, all, local, dns); err == nil || errors.Is(err, ErrLeadsToSelf) {
		t.Errorf("a host that cannot be looked up: %v", err)
	}
}

package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// usable is a file in which each test puts one mistake.
const usable = `hostname = "mx1.example.com"

[smtp]
max_recipients = 50

[firewall]
ban_ttl = "24h"

[backend.office]
url = "smtp://192.0.2.10:25"

[domain."example.com"]
backends = ["office"]

[domain."example.org"]
backends = ["office"]
max_message_size = "10MiB"

[system.interfaces]
eth0 = ["192.0.2.25/24"]

[system.operators]
anna = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHxExampleExampleExampleExampleExample anna"]
`

// A machine that gets a file with a mistake works by the rest of it, and says
// what it left out at the place where that stands.
func TestUsable(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		left           string // LINE: what; "" none
		domains        string
		observe        bool
		check          func(Config) string
	}{
		{name: "no mistake", domains: "example.com example.org"},
		{name: "unknown key", old: "max_recipients = 50", new: "max_recipients = 50\nmax_recipient = 3", left: "5: unknown key smtp.max_recipient",
			domains: "example.com example.org", check: func(c Config) string { return fmt.Sprint(c.SMTP.MaxRecipients == 50) }},
		{name: "bad value", old: `"24h"`, new: `"soon"`, left: `7: "soon" is not a duration`, domains: "example.com example.org", observe: true,
			check: func(c Config) string { return fmt.Sprint(c.Firewall.BanTTL == Default().Firewall.BanTTL) }},
		{name: "unknown table", old: "[smtp]", new: "[smtpd]\nobserve = true\n[smtp]", left: "3: unknown table [smtpd]", domains: "example.com example.org", observe: true},
		{name: "a table of a later release", old: "[smtp]", new: "[webmail]\nlisten = \"x\"\n\n[smtp]", left: "3: unknown table [webmail]", domains: "example.com example.org"},
		{name: "no text", old: `hostname = "mx1.example.com"`, new: `hostname = mx1.example.com`,
			left: "1: a text stands without quotes; 1: hostname is missing: set-hostname.invalid is taken", domains: "example.com example.org", observe: true},
		{name: "a table's name", old: "[backend.office]", new: "[backend.office", left: "9: a table's name is malformed; 13: there is no backend \"office\"; 12: domain.\"example.com\".backends is missing; 17: domain.\"example.org\".backends is missing; 24: there is no domain to take mail for"},
		{name: "one domain of two", old: `backends = ["office"]` + "\nmax", new: `backends = ["ofice"]` + "\nmax",
			left: `16: there is no backend "ofice"; 17: domain."example.org".backends is missing`, domains: "example.com"},
		{name: "it held back", old: "[smtp]", new: "observe = \"yes\"\n[smtp]", left: "3: \"yes\" is not true or false", domains: "example.com example.org", observe: true},
		{name: "it held back, with its table", old: "[firewall]", new: "[firewal]", left: "6: unknown table [firewal]", domains: "example.com example.org", observe: true},
		{name: "harvest that was off", old: "[smtp]", new: "[harvest]\nenabled = \"no\"\n[smtp]", left: `4: "no" is not true or false`, domains: "example.com example.org", observe: true},
		{name: "a table misspelt", old: "[smtp]", new: "[harvst]\nunknown_per_hour = 500\n[smtp]", left: "3: unknown table [harvst]", domains: "example.com example.org", observe: true},
		{name: "a key misspelt", old: "[smtp]", new: "[smtp]\nforwarder = [\"192.0.2.0/24\"]", left: "4: unknown key smtp.forwarder", domains: "example.com example.org", observe: true},
		{name: "observe misspelt", old: "[smtp]", new: "observed = true\n[smtp]", left: "3: unknown key observed", domains: "example.com example.org", observe: true},
		{name: "a resolver", old: "[smtp]", new: "[dns]\nservers = [\"none\"]\n[smtp]", left: "4: ", domains: "example.com example.org"},
		{name: "a check that was off", old: "[smtp]", new: "[checks]\nset.helo_literal = \"of\"\n[smtp]", left: "4: ", domains: "example.com example.org", observe: true},
		{name: "a list that was good", old: "[smtp]", new: "[dnsbl.good]\nzone = \"list.example.net\"\nkind = \"alow\"\nscores = { \"127.0.0.2\" = 9 }\n[smtp]", left: "5: ", domains: "example.com example.org", observe: true},
		{name: "a domain's own", old: "max_message_size = \"10MiB\"", new: "greylist.mode = \"none\"", left: "17: ", domains: "example.com example.org", observe: true},
		{name: "a key of a later release", old: "max_recipients = 50", new: "zzyzx = 1", left: "4: unknown key smtp.zzyzx", domains: "example.com example.org"},
		{name: "larger messages", old: "max_recipients = 50", new: "max_message_size = \"100 megs\"", left: "4: ", domains: "example.com example.org", observe: true,
			check: func(c Config) string { return fmt.Sprint(c.SMTP.MaxMessageSize == 2*GiB) }},
		{name: "larger messages, no text", old: "max_recipients = 50", new: "max_message_size = 100MiB", left: "4: ", domains: "example.com example.org", observe: true,
			check: func(c Config) string { return fmt.Sprint(c.SMTP.MaxMessageSize == 2*GiB) }},
		{name: "larger messages of a domain", old: "10MiB", new: "100 megs", left: "17: ", domains: "example.com example.org", observe: true,
			check: func(c Config) string { return fmt.Sprint(c.Domains[1].MaxMessageSize == 2*GiB) }},
		{name: "never in clear", old: `192.0.2.10:25"`, new: "192.0.2.10:25\"\ntls = \"require\"", left: "11: ", domains: "example.com example.org",
			check: func(c Config) string { return fmt.Sprint(c.Backends[0].TLS == "required") }},
		{name: "never in clear, misspelt", old: `192.0.2.10:25"`, new: "192.0.2.10:25\"\ntsl = \"required\"", left: "11: ", domains: "example.com example.org",
			check: func(c Config) string { return fmt.Sprint(c.Backends[0].TLS == "required") }},
		{name: "never banned", old: "ban_ttl", new: "never_ban = [\"192.0.2.0/33\"]\nban_ttl", left: "7: \"192.0.2.0/33\" is not a prefix", domains: "example.com example.org", observe: true},
		{name: "an address", old: "192.0.2.25/24", new: "192.0.2.25", left: "20: \"192.0.2.25\" is no address with the length of its network", domains: "example.com example.org",
			check: func(c Config) string { return fmt.Sprint(len(c.System.Interfaces) == 0) }},
		{name: "twice", old: "[firewall]", new: "[smtp]\n[firewall]", left: "6: table smtp is there twice", domains: "example.com example.org", observe: true},
		{name: "no hostname", old: `hostname = "mx1.example.com"`, new: "# ü", left: "1: hostname is missing: set-hostname.invalid is taken", domains: "example.com example.org"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(usable, c.old, c.new, 1)
			cfg, left, ok := Usable("weir.toml", []byte(text), "set-hostname.invalid", nil)
			var said []string
			for _, p := range left {
				said = append(said, fmt.Sprintf("%d: %s", p.Line, p.What))
			}
			if got := strings.Join(said, "; "); !sameStart(said, c.left) {
				t.Errorf("left out\n%s, want\n%s", got, c.left)
			}
			if ok != (c.domains != "") {
				t.Fatalf("usable: %v", ok)
			}
			if !ok {
				return
			}
			var domains []string
			for _, d := range cfg.Domains {
				domains = append(domains, d.Name)
			}
			if got := strings.Join(domains, " "); got != c.domains {
				t.Errorf("domains %s, want %s", got, c.domains)
			}
			if cfg.Observe != c.observe || cfg.Partial != (c.left != "") {
				t.Errorf("observe %v, partial %v", cfg.Observe, cfg.Partial)
			}
			if c.check != nil && c.check(cfg) != "true" {
				t.Errorf("the rest is not as it stands there: %+v", cfg)
			}
		})
	}
}

// sameStart holds that each thing that was left out begins as wanted.
func sameStart(said []string, want string) bool {
	if want == "" {
		return len(said) == 0
	}
	all := strings.Split(want, "; ")
	return slices.EqualFunc(said, all, strings.HasPrefix)
}

// What the machine itself finds is left out like a mistake of the file.
func TestUsableAsksTheMachine(t *testing.T) {
	text := "hostname = \"mx1.example.com\"\ntls.certificates = [{ cert = \"/no\", key = \"/no\" }]\n" + strings.TrimPrefix(usable, "hostname = \"mx1.example.com\"\n")
	cfg, left, ok := Usable("weir.toml", []byte(text), "x.invalid", func(f *File, c Config) Problems {
		if len(c.TLS.Certificates) == 0 {
			return nil
		}
		return Problems{f.Problem("tls.certificates", "there is no such file", "")}
	})
	if !ok || len(left) != 1 || left[0].Line != 2 || len(cfg.TLS.Certificates) != 0 || len(cfg.Domains) != 2 {
		t.Errorf("%v, %v, %+v", ok, left, cfg.TLS)
	}
}

// Whatever is read, it comes to an end, and what is usable has no mistake.
// A new input takes go test a minute to make smaller, in which it seems to stand
// still: -fuzzminimizetime=1x has it go on.
func FuzzUsable(f *testing.F) {
	f.Add(usable)
	f.Add("hostname = \"\"\"\n[\n]]x=[1,\n")
	f.Fuzz(func(t *testing.T, text string) {
		if cfg, _, ok := Usable("x", []byte(text), "x.invalid", nil); ok && len(cfg.Domains) == 0 {
			t.Error("usable without a domain")
		}
	})
}

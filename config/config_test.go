package config

import (
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// minimal is the shortest file there is.
const minimal = `hostname = "mx1.example.net"
[backend.office]
url = "smtp://mail.example.com:25"
[domain."example.com"]
backends = ["office"]
`

func TestMinimalFileHasDefaults(t *testing.T) {
	_, got, problems := Parse("weir.toml", []byte(minimal))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Default()
	want.Hostname = "mx1.example.net"
	want.Backends = []Backend{{Name: "office", URL: "smtp://mail.example.com:25", TLS: "opportunistic"}}
	want.Domains = []Domain{{Name: "example.com", Backends: []string{"office"}, Recipients: Recipients{From: FromBackend}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// samples has a value other than the default for every key of the schema.
var samples = map[string]struct {
	text string
	want any
}{
	"hostname":                              {`"MX9.example.org."`, "mx9.example.org"},
	"observe":                               {`true`, true},
	"state_dir":                             {`"/srv/weir"`, "/srv/weir"},
	"run_dir":                               {`"/run/weir9"`, "/run/weir9"},
	"users.mail":                            {`"nobody"`, "nobody"},
	"smtp.listen":                           {`["192.0.2.1:2525", "[2001:db8::1]:26"]`, addrPorts("192.0.2.1:2525", "[2001:db8::1]:26")},
	"smtp.max_message_size":                 {`"1GiB"`, GiB},
	"smtp.max_recipients":                   {`1_000`, nil},
	"smtp.max_connections":                  {`7`, 7},
	"smtp.per_source.open":                  {`3`, 3},
	"smtp.per_source.new_per_minute":        {`4`, 4},
	"smtp.timeouts.command":                 {`"90s"`, 90 * time.Second},
	"smtp.timeouts.data_idle":               {`"1m30s"`, 90 * time.Second},
	"smtp.timeouts.session":                 {`"1d"`, 24 * time.Hour},
	"smtp.greet_wait":                       {`"0s"`, time.Duration(0)},
	"smtp.forwarders":                       {`["192.0.2.0/24", "2001:db8::9"]`, prefixes("192.0.2.0/24", "2001:db8::9/128")},
	"tls.certificates":                      {`[{ cert = "/a.pem", key = "/a.key" }]`, []Certificate{{"/a.pem", "/a.key"}}},
	"tls.min_version":                       {`"1.3"`, "1.3"},
	"dns.servers":                           {`["127.0.0.1", "[::1]:5353"]`, addrPorts("127.0.0.1:53", "[::1]:5353")},
	"dns.timeout":                           {`"250ms"`, 250 * time.Millisecond},
	"firewall.enabled":                      {`false`, false},
	"firewall.engine":                       {`"nft"`, "nft"},
	"firewall.xdp_mode":                     {`"generic"`, "generic"},
	"firewall.interfaces":                   {`["eth0", "eth1.20"]`, []string{"eth0", "eth1.20"}},
	"firewall.ports":                        {`[25, 465]`, []uint16{25, 465}},
	"firewall.ban_ttl":                      {`"1d12h"`, 36 * time.Hour},
	"firewall.ban_max":                      {`"7d"`, 7 * day},
	"firewall.never_ban":                    {`["::ffff:192.0.2.7"]`, prefixes("192.0.2.7/32")},
	"firewall.detach_on_stop":               {`true`, true},
	"firewall.syn_limit":                    {`false`, false},
	"firewall.flood_per_second":             {`500`, 500},
	"firewall.explain_per_hour":             {`2`, 2},
	"geo.database":                          {`"/var/lib/c.mmdb"`, "/var/lib/c.mmdb"},
	"geo.asn":                               {`"/var/lib/a.mmdb"`, "/var/lib/a.mmdb"},
	"geo.ban":                               {`["NL", "AS64500"]`, []string{"NL", "AS64500"}},
	"geo.drop":                              {`["nl", "as64500"]`, []string{"NL", "AS64500"}},
	"geo.reject":                            {`["KP", "AS64500"]`, []string{"KP", "AS64500"}},
	"geo.score":                             {`{ KP = 3, AS64500 = -0.5 }`, map[string]float64{"KP": 3, "AS64500": -0.5}},
	"checks.profile":                        {`"strict"`, "strict"},
	"greylist.mode":                         {`"all"`, "all"},
	"greylist.delay":                        {`"5m"`, 5 * time.Minute},
	"greylist.window":                       {`"1d"`, 24 * time.Hour},
	"greylist.pass":                         {`"60d"`, 60 * 24 * time.Hour},
	`domain."example.com".greylist.mode`:    {`"off"`, "off"},
	`domain."example.com".greylist.delay`:   {`"5m"`, 5 * time.Minute},
	`domain."example.com".greylist.window`:  {`"1d"`, 24 * time.Hour},
	`domain."example.com".greylist.pass`:    {`"60d"`, 60 * 24 * time.Hour},
	"checks.reject_score":                   {`9.5`, 9.5},
	"checks.rdns_keywords":                  {`["cust"]`, []string{"cust"}},
	"checks.set":                            {`{ rdns_generic = "reject", helo_ours = 2 }`, map[string]string{"rdns_generic": "reject", "helo_ours": "2"}},
	"dnsbl.zen.zone":                        {`"Zen.example.org."`, "zen.example.org"},
	"dnsbl.zen.kind":                        {`"allow"`, "allow"},
	"dnsbl.zen.scores":                      {`{ "127.0.0.4-7" = 8, "127.0.*.3" = 1 }`, map[string]float64{"127.0.0.4-7": 8, "127.0.*.3": 1}},
	"dnsbl.zen.lookup":                      {`"https://x.example/%{addr}"`, "https://x.example/%{addr}"},
	"feed.drop.source":                      {`"https://x.example/drop.txt"`, "https://x.example/drop.txt"},
	"feed.drop.action":                      {`"ban"`, "ban"},
	"feed.drop.refresh":                     {`"1h"`, time.Hour},
	"feed.drop.max_entries":                 {"5", 5},
	"providers.spare":                       {`["Google", "spf.example.net."]`, []string{"google", "spf.example.net"}},
	`domain."example.com".observe`:          {"true", true},
	"dnsbl.zen.reply":                       {`"no: %list"`, "no: %list"},
	"harvest.enabled":                       {`false`, false},
	"harvest.unknown_per_hour":              {`5`, 5},
	"harvest.share_per_hour":                {`0.5`, 0.5},
	"harvest.unknown_per_day":               {`40`, 40},
	"harvest.share_per_day":                 {`1`, 1.0},
	"harvest.absolute_per_day":              {`9`, 9},
	"harvest.traps":                         {`["a@example.com", "old-*@example.com", "trap.example.com"]`, []string{"a@example.com", "old-*@example.com", "trap.example.com"}},
	"harvest.trap_hits":                     {`2`, 2},
	"harvest.complaints":                    {`4`, 4},
	"harvest.complaint_mailbox":             {`"Reports@Example.COM"`, "Reports@example.com"},
	"backend.office.url":                    {`"lmtp+unix:///run/lmtp"`, "lmtp+unix:///run/lmtp"},
	"backend.office.tls":                    {`"required"`, "required"},
	`domain."example.com".backends`:         {`["office", "office"]`, []string{"office", "office"}},
	`domain."example.com".recipients`:       {`"file:/etc/r"`, Recipients{From: FromFile, Path: "/etc/r"}},
	`domain."example.com".max_message_size`: {`"100KiB"`, 100 * KiB},
	`domain."example.com".profile`:          {`"strict"`, "strict"},
	`domain."example.com".reject_score`:     {`5`, 5.0},
	`domain."example.com".set`:              {`{ spf_fail = "off" }`, map[string]string{"spf_fail": "off"}},
	`domain."example.com".geo.reject`:       {`["KP"]`, []string{"KP"}},
	`domain."example.com".geo.score`:        {`{ KP = 1 }`, map[string]float64{"KP": 1}},
	"records.keep":                          {`"90d"`, Retention(90 * day)},
	"records.max_size":                      {`"16MiB"`, 16 * MiB},
	"metrics.listen":                        {`"[::1]:9000"`, "[::1]:9000"},
	"syslog.siem.target":                    {`"tls://[2001:db8::5]:6514"`, "tls://[2001:db8::5]:6514"},
	"syslog.siem.ca":                        {`"/etc/ca.pem"`, "/etc/ca.pem"},
	"syslog.siem.facility":                  {`"local3"`, "local3"},
	"system.interfaces":                     {`{ eth0 = ["192.0.2.25/24", "2001:db8::25/64"], eth1 = [] }`, map[string][]string{"eth0": {"192.0.2.25/24", "2001:db8::25/64"}, "eth1": nil}},
	"system.routes":                         {`{ default = ["192.0.2.1"], "10.0.0.0/8" = ["192.0.2.2"] }`, map[string][]string{"default": {"192.0.2.1"}, "10.0.0.0/8": {"192.0.2.2"}}},
	"system.dns":                            {`["192.0.2.53"]`, addrPorts("192.0.2.53:53")},
	"system.ntp":                            {`["ntp.example.net", "192.0.2.123"]`, []string{"ntp.example.net", "192.0.2.123"}},
	"system.operators": {`{ anna = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEW5K7t89vEsUHNPvjp9JHHSKgt/4tyKLnzNrIO2hwSS anna"] }`,
		map[string][]string{"anna": {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEW5K7t89vEsUHNPvjp9JHHSKgt/4tyKLnzNrIO2hwSS anna"}}},
	"syslog.siem.buffer": {`"1MiB"`, 1 * MiB},
}

func addrPorts(s ...string) (list []netip.AddrPort) {
	for _, a := range s {
		list = append(list, netip.MustParseAddrPort(a))
	}
	return list
}

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// TestEveryKeyIsRead sets each key of the schema by an edit, in a file that has
// the tables that it needs, and finds it in the Config.
func TestEveryKeyIsRead(t *testing.T) {
	base := minimal + "[syslog.siem]\ntarget = \"unix:///dev/log\"\n[dnsbl.zen]\nzone = \"zen.example\"\n[feed.drop]\nsource = \"/etc/drop\"\n"
	for _, s := range schema {
		for _, k := range s.keys {
			path := map[string]string{
				"backend": "backend.office." + k.name, "domain": `domain."example.com".` + k.name, "syslog": "syslog.siem." + k.name,
				"dnsbl": "dnsbl.zen." + k.name,
				"feed":  "feed.drop." + k.name,
				"":      k.name,
			}[s.path]
			if path == "" {
				path = s.path + "." + k.name
			}
			t.Run(path, func(t *testing.T) {
				sample, ok := samples[path]
				if !ok {
					t.Fatal("the key has no sample in this test")
				}
				base := base
				if path == "system.routes" {
					base += "[system.interfaces]\neth0 = [\"192.0.2.25/24\"]\n"
				}
				f, old, problems := Parse("weir.toml", []byte(base))
				if problems.Bad() {
					t.Fatal(problems)
				}
				f, c, problems, err := f.Set(path, sample.text)
				if err != nil || problems.Bad() {
					t.Fatalf("%v\n%v\n%s", err, problems, f.Text)
				}
				place := k.place(&c, map[string]string{"backend": "office", "domain": "example.com", "syslog": "siem", "dnsbl": "zen", "feed": "drop"}[s.path])
				if got := reflect.ValueOf(place).Elem().Interface(); sample.want != nil && !reflect.DeepEqual(got, sample.want) {
					t.Errorf("got %v, want %v", got, sample.want)
				}
				now, later := Diff(old, c)
				kept := InForce(old, c)
				if still, _ := Diff(old, kept); !slices.Equal(still, now) {
					t.Errorf("a reload puts %q in force, want %q", still, now)
				}
				if _, waiting := Diff(kept, c); !slices.Equal(waiting, later) {
					t.Errorf("after a reload %q wait for the next start, want %q", waiting, later)
				}
				if changed := append(now, later...); !slices.Equal(changed, []string{path}) || (len(later) == 1) != k.atStart {
					t.Errorf("Diff says now %q, later %q", now, later)
				}
			})
		}
	}
}

// TestContract holds that every key of the product's contract is known: acted
// on, or refused by name. The example is the contract's own.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, _, problems := Parse("contract.toml", text)
	served := 0
	for _, p := range problems {
		if strings.HasPrefix(p.What, "this release does not serve") || strings.Contains(p.What, "udp") {
			continue
		}
		t.Error(p)
	}
	doc, _ := parse(text)
	for _, e := range doc.entries {
		if _, late := comesWith(e.path); !late {
			served++
		}
	}
	if served < 40 {
		t.Errorf("only %d keys of the contract are served: is the example read?", served)
	}
}

// TestLaterIsNotServed finds a key that is in both lists.
func TestLaterIsNotServed(t *testing.T) {
	for _, s := range schema {
		for _, k := range s.keys {
			path := splitPath(s.example(k, nil))
			if with, late := comesWith(path); late {
				t.Errorf("%s is served, and listed to come with %s", joinPath(path), with)
			}
		}
	}
}

// TestDefaultsAreInRange holds every default against the rule for its key.
func TestDefaultsAreInRange(t *testing.T) {
	for _, s := range schema {
		for _, k := range s.keys {
			if k.must || k.within == nil || s.path == "domain" {
				continue
			}
			if what, _ := k.within(k.defaultPlace(s)); what != "" {
				t.Errorf("the default of %s: %s", s.example(k, nil), what)
			}
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "48h": 48 * time.Hour, "14d": 14 * day, "1d12h": 36 * time.Hour, "0s": 0, "1.5h": 90 * time.Minute,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v", text, got, err)
		}
		if again, err := ParseDuration(formatDuration(got)); err != nil || again != want {
			t.Errorf("formatDuration(%v) = %q", got, formatDuration(got))
		}
	}
	for _, text := range []string{"", "d", "5", "-1s", "-1d", "1d-1h", "5 m", "1h1d", "1w", "99999d99999999h", "9e9d"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, d)
		}
	}
}

// R-CX-05: a month by default, without an end where the file says so.
func TestRetentions(t *testing.T) {
	for text, want := range map[string]string{
		`"forever"`: "", `"90d"`: "", `"1h"`: "",
		`"59m"`:  "weir.toml:1:16: 59m is out of range (write 1h to 3650d, or \"forever\")",
		`"ever"`: "weir.toml:1:16: \"ever\" is not a duration (write \"48h\", \"30d\" or \"forever\")",
	} {
		_, c, problems := Parse("weir.toml", []byte("records.keep = "+text+"\nhostname = \"mx1.example.net\"\nbackend.o.url = \"smtp://x.example\"\ndomain.\"example.com\".backends = [\"o\"]\n"))
		if got := problems.Error(); got != want || want == "" && quote(c.Records.Keep.String()) != text {
			t.Errorf("%s: %s, keeps %v", text, got, c.Records.Keep)
		}
	}
	if Default().Records.Keep != Retention(30*day) {
		t.Errorf("records are kept %v by default", Default().Records.Keep)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "512KiB": 512 * KiB, "50MiB": 50 * MiB, "4 GiB": 4 * GiB, "1000": 1000} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != want {
			t.Errorf("String of %d = %q", got, got)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "1MB", "9223372036854775807KiB", "1KiBKiB"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, n)
		}
	}
}

package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows is which package of ours may import which. Nothing else may: the
// process that parses strangers' bytes and the one that holds the kernel stay
// apart because their code does.
var arrows = map[string]string{
	"bpf":                     "",
	"ref":                     "",
	"geo":                     "",
	"disk":                    "",
	"dns":                     "",
	"prefix":                  "",
	"feed":                    "disk prefix",
	"control":                 "",
	"config":                  "disk ref",
	"lab":                     "",
	"smtp/address":            "",
	"smtp/reply":              "ref",
	"smtp/wire":               "smtp/address smtp/reply ref",
	"smtp":                    "smtp/access smtp/greylist smtp/wire smtp/address smtp/reply ref",
	"smtp/check":              "smtp smtp/access smtp/greylist smtp/reply smtp/address smtp/wire",
	"smtp/scout":              "dns smtp smtp/address smtp/check",
	"smtp/relay":              "disk smtp smtp/address smtp/reply ref",
	"smtp/harvest":            "disk smtp smtp/reply ref",
	"smtp/complaint":          "smtp smtp/address smtp/reply ref",
	"smtp/rdns":               "",
	"smtp/provider":           "prefix",
	"smtp/access":             "disk prefix",
	"smtp/greylist":           "",
	"record":                  "disk record/syslog smtp smtp/access smtp/greylist smtp/reply ref",
	"record/syslog":           "disk",
	"record/replay":           "record smtp smtp/access smtp/greylist smtp/harvest smtp/reply ref",
	"firewall":                "disk geo ref",
	"firewall/xdp":            "firewall bpf geo",
	"firewall/nft":            "firewall geo",
	"firewall/guard":          "disk firewall control geo ref",
	"console":                 "",
	"cmd/appliance":           "cmd/appliance/command",
	"cmd/appliance/command":   "cmd/appliance/guardrole cmd/appliance/machine cmd/appliance/mailapi cmd/appliance/mailrole cmd/appliance/process cmd/appliance/settings config console control feed firewall firewall/guard record record/replay record/syslog ref smtp smtp/access smtp/greylist smtp/harvest smtp/relay smtp/reply",
	"cmd/appliance/guardrole": "cmd/appliance/process cmd/appliance/settings config firewall/guard firewall/nft firewall/xdp geo",
	"cmd/appliance/machine":   "cmd/appliance/settings config disk image/osfiles image/slot",
	"cmd/appliance/mailapi":   "config control dns feed firewall record record/syslog ref smtp smtp/access smtp/greylist smtp/harvest smtp/relay smtp/scout",
	"cmd/appliance/mailrole":  "cmd/appliance/mailapi cmd/appliance/process cmd/appliance/settings config control disk dns feed firewall firewall/guard geo prefix record record/syslog ref smtp smtp/access smtp/address smtp/complaint smtp/greylist smtp/harvest smtp/provider smtp/relay smtp/reply smtp/scout",
	"cmd/appliance/process":   "control firewall/guard",
	"cmd/appliance/settings":  "config dns firewall firewall/guard geo record record/syslog smtp smtp/access smtp/address smtp/check smtp/greylist smtp/harvest smtp/rdns smtp/relay smtp/reply smtp/scout",
	"lab/demo":                "lab",
	"lab/bench":               "lab",
	"firewall/enginetest":     "firewall geo",
	"image/osfiles":           "",
	"image/slot":              "disk",
	"image/pack":              "image/slot",
	"image/vm":                "",
}

// owners is which package of ours alone imports a library directly, tests
// aside: what a library cannot do for others it cannot break in them.
var owners = map[string]string{
	"github.com/emersion/go-smtp":             "smtp",
	"github.com/cilium/ebpf":                  "bpf firewall/xdp",
	"github.com/emersion/go-msgauth/dkim":     "smtp/scout",
	"github.com/emersion/go-msgauth/dmarc":    "smtp/scout",
	"github.com/emersion/go-msgauth/authres":  "smtp",
	"github.com/miekg/dns":                    "dns",
	"blitiri.com.ar/go/spf":                   "smtp/scout",
	"github.com/google/nftables":              "firewall/nft",
	"github.com/pelletier/go-toml/v2":         "config",
	"github.com/oschwald/geoip2-golang/v2":    "geo",
	"github.com/oschwald/maxminddb-golang/v2": "geo",
	"github.com/spf13/cobra":                  "cmd/appliance/command",
	"modernc.org/sqlite":                      "record",
	"github.com/prometheus/client_golang":     "cmd/appliance/mailrole",
}

// module is the path that our packages begin with.
const module = "mailweir/"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestArrows holds the map of ARCHITECTURE.md.
func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		may, known := arrows[name]
		if !known && len(p.Imports) > 0 {
			t.Errorf("%s is not on the map: say in arrows what it may import", name)
			continue
		}
		for _, to := range p.Imports {
			if ours, ok := strings.CutPrefix(to, module); ok && !slices.Contains(strings.Fields(may), ours) {
				t.Errorf("%s imports %s: that arrow is not on the map", name, ours)
			}
		}
	}
}

// TestOwners holds the libraries in the packages that they are for.
func TestOwners(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, to := range p.Imports {
			for library, owner := range owners {
				if (to == library || strings.HasPrefix(to, library+"/")) && !slices.Contains(strings.Fields(owner), name) {
					t.Errorf("%s imports %s, which only %s may", name, to, owner)
				}
			}
		}
	}
}

// TestArrowsAreOneWay finds a map that contradicts itself.
func TestArrowsAreOneWay(t *testing.T) {
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		for _, next := range strings.Fields(arrows[from]) {
			if next == to || reaches(next, to) {
				return true
			}
		}
		return false
	}
	for _, apart := range [][2]string{
		{"firewall/guard", "smtp"}, {"smtp", "firewall"}, {"smtp", "record"}, {"smtp/relay", "smtp/harvest"}, {"config", "smtp"},
		{"cmd/appliance/guardrole", "cmd/appliance/mailrole"}, {"cmd/appliance/mailrole", "cmd/appliance/guardrole"},
		{"cmd/appliance/machine", "cmd/appliance/mailapi"}, {"cmd/appliance/process", "smtp"}, {"cmd/appliance/mailapi", "cmd/appliance/settings"},
	} {
		if reaches(apart[0], apart[1]) {
			t.Errorf("the map lets %s reach %s", apart[0], apart[1])
		}
	}
}

// TestArrowsOfFirewallAndSMTPMeetInOnePlace holds the map to its first rule: only what
// is below cmd/appliance knows both.
func TestArrowsOfFirewallAndSMTPMeetInOnePlace(t *testing.T) {
	for name, may := range arrows {
		both := map[string]bool{}
		for _, to := range strings.Fields(may + " " + name) {
			part, _, _ := strings.Cut(to, "/")
			both[part] = true
		}
		if both["firewall"] && both["smtp"] && !strings.HasPrefix(name, "cmd/appliance") {
			t.Errorf("the map lets %s know firewall and smtp", name)
		}
	}
}

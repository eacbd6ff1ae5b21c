package osfiles

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

var full = Settings{
	Listen:  []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:25"), netip.MustParseAddrPort("[::]:25")},
	Metrics: "127.0.0.1:9125",
	Interfaces: map[string][]string{
		"eth0": {"192.0.2.25/24", "2001:db8::25/64"},
		"eth1": {"10.0.0.2/24"},
		"eth2": nil, // DHCP
	},
	Routes: map[string][]string{"default": {"192.0.2.1", "203.0.113.1"}, "10.0.0.0/8": {"10.0.0.1"}},
	DNS:    []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")},
	NTP:    []string{"ntp.example.net"},
	Operators: []Operator{
		{Name: "anna", Keys: []string{"ssh-ed25519 AAAA anna"}, Password: "$6$salt$hash"},
		{Name: "bert", Keys: []string{"ssh-ed25519 BBBB bert"}},
	},
}

// TestRender shows every file of a machine that says everything, and of one
// that says nothing (R-MC-06).
func TestRender(t *testing.T) {
	for name, s := range map[string]Settings{"full": full, "empty": {Listen: full.Listen}} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			files := Render(s)
			var names []string
			for n := range files {
				names = append(names, n)
			}
			slices.Sort(names)
			for _, n := range names {
				f := files[n]
				b.WriteString("==> " + n + " " + f.Mode.String())
				if f.Link != "" {
					b.WriteString(" -> " + f.Link)
				}
				b.WriteString("\n" + f.Text)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", b.String(), want)
			}
		})
	}
}

// TestWriteTakesAwayWhatIsNoMore follows a machine through three changes.
func TestWriteTakesAwayWhatIsNoMore(t *testing.T) {
	root := t.TempDir()
	write := func(files Files) []string {
		t.Helper()
		changed, err := Write(root, files)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	a := Files{networkDir + "/50-eth0.network": text("a\n"), ownDir + "/chrony/servers.conf": text("x\n")}
	if got := write(a); len(got) != 2 {
		t.Errorf("the first time %q changed", got)
	}
	if got := write(a); len(got) != 0 {
		t.Errorf("the second time %q changed", got)
	}
	if err := os.WriteFile(filepath.Join(root, networkDir, "other"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := write(Files{ownDir + "/chrony/servers.conf": text("y\n")}); !slices.Equal(got, []string{ownDir + "/chrony/servers.conf", networkDir + "/50-eth0.network"}) {
		t.Errorf("the third time %q changed", got)
	}
	if _, err := os.Lstat(filepath.Join(root, networkDir, "50-eth0.network")); err == nil {
		t.Error("what is no more is still there")
	}
	if _, err := os.Lstat(filepath.Join(root, networkDir, "other")); err != nil {
		t.Error("somebody else's file is gone")
	}
}

// TestServices holds that only those are told whose files changed.
func TestServices(t *testing.T) {
	for _, c := range []struct {
		changed string
		want    string
	}{
		{networkDir + "/50-eth0.network", "networkctl reload"},
		{ownDir + "/unbound/forward.conf", "systemctl restart unbound.service"},
		{ownDir + "/keys/anna", ""},
		{unitDir + "/weir-mail.service.d/50-metrics.conf", "systemctl daemon-reload; systemctl restart weir-mail.service"},
		{unitDir + "/getty@.service.d/50-setup.conf", "systemctl daemon-reload"},
	} {
		var got []string
		for _, command := range Services([]string{c.changed}) {
			got = append(got, strings.Join(command, " "))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("after %s: %q, want %q", c.changed, got, c.want)
		}
	}
}

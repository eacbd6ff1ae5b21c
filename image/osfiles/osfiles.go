// Package osfiles is what the operating system of the appliance image is told:
// the files, all below /run, that are made from [system], smtp.listen and
// metrics.listen of the configuration file. The root is read-only and the same on every machine of a
// version; what varies is rendered at each boot and at each change, so there is
// nothing to drift and nothing to restore but the one file.
//
// Render is pure. Write puts its result in place of what the last one wrote
// and says which services have to look again.
package osfiles

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Settings is what varies between machines. Every value has been checked.
type Settings struct {
	Listen     []netip.AddrPort    // of the SMTP port
	Metrics    string              // address and port of metrics; "": nowhere
	Interfaces map[string][]string // addresses with lengths; an empty list: DHCP
	Routes     map[string][]string // gateways by "default" or prefix
	DNS        []netip.AddrPort    // forwarders; none: full recursion
	NTP        []string            // none: Debian's pool
	Operators  []Operator
}

// Operator is somebody who may log in.
type Operator struct {
	Name     string
	Keys     []string // lines of authorized_keys
	Password string   // hash (crypt(5)); "": by key only
}

// File is one file to be.
type File struct {
	Text string
	Mode fs.FileMode
	Dir  bool // a directory that belongs to Owner
	// Owner is a user and group id; 0 is root.
	Owner, Group int
	Link         string // where a symbolic link leads
}

// Files are files by path, relative to the root of the file system.
type Files map[string]File

// The ids of operators begin here, in the order of their names. They own
// nothing on disk, so that they may move.
const (
	firstOperator = 1000
	operatorGroup = 902 // weir-operator, see sysusers.d/mailweir.conf
)

// Folders of the rendered files.
const (
	ownDir      = "run/mailweir-system"
	networkDir  = "run/systemd/network"
	unitDir     = "run/systemd/system"
	userDir     = "run/userdb"
	operatorDir = "run/operators"
	shell       = "/usr/lib/mailweir/operator"
)

// Render is all the files that settings mean.
func Render(s Settings) Files {
	f := Files{
		path.Join(unitDir, "weir-mail.socket.d/50-listen.conf"):   text(socket(s.Listen)),
		path.Join(unitDir, "weir-mail.service.d/50-metrics.conf"): text(metrics(s.Metrics)),
		path.Join(ownDir, "unbound/forward.conf"):                 text(forward(s.DNS)),
		path.Join(ownDir, "chrony/servers.conf"):                  text(timeServers(s.NTP)),
	}
	for _, name := range interfaces(s) {
		f[path.Join(networkDir, "50-"+name+".network")] = text(network(name, s))
	}
	passwords := false
	for i, o := range s.Operators {
		o.render(f, firstOperator+i)
		passwords = passwords || o.Password != ""
	}
	if !passwords {
		for unit, agetty := range map[string]string{
			"getty@.service.d":        "agetty --noclear - ${TERM}",
			"serial-getty@.service.d": "agetty --keep-baud 115200,57600,38400,9600 - ${TERM}",
		} {
			f[path.Join(unitDir, unit, "50-setup.conf")] = text(
				"# Nobody has a password yet: who stands at the console sets the machine up.\n[Service]\nExecStart=\nExecStart=-/sbin/" +
					strings.Replace(agetty, "agetty", "agetty --autologin setup --skip-login --nonewline --noissue", 1) + "\n")
		}
	}
	return f
}

func text(t string) File { return File{Text: t, Mode: 0o644} }

func socket(listen []netip.AddrPort) string {
	var b strings.Builder
	b.WriteString("# smtp.listen\n[Socket]\nListenStream=\n")
	for _, l := range listen {
		fmt.Fprintf(&b, "ListenStream=%v\n", l)
	}
	return b.String()
}

// metrics lets the mail role bind the one port that it opens itself.
func metrics(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "# metrics.listen is empty\n"
	}
	return "# metrics.listen\n[Service]\nSocketBindAllow=tcp:" + port + "\n"
}

func forward(servers []netip.AddrPort) string {
	if len(servers) == 0 {
		return "# system.dns names none: the authoritative servers are asked\n"
	}
	var b strings.Builder
	b.WriteString("# system.dns\nforward-zone:\n  name: \".\"\n")
	for _, s := range servers {
		fmt.Fprintf(&b, "  forward-addr: %v@%d\n", s.Addr(), s.Port())
	}
	return b.String()
}

func timeServers(servers []string) string {
	if len(servers) == 0 {
		return "pool 2.debian.pool.ntp.org iburst\n"
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "server %s iburst\n", s)
	}
	return b.String()
}

// interfaces are those with addresses of their own; the others are DHCP's, by a
// file of the image.
func interfaces(s Settings) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.Interfaces)) {
		if len(s.Interfaces[name]) > 0 {
			names = append(names, name)
		}
	}
	return names
}

func network(name string, s Settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# system.interfaces\n[Match]\nName=%s\n\n[Network]\nLLMNR=no\nMulticastDNS=no\nIPv6AcceptRA=no\n", name)
	for _, a := range s.Interfaces[name] {
		fmt.Fprintf(&b, "Address=%s\n", a)
	}
	for _, to := range slices.Sorted(maps.Keys(s.Routes)) {
		for _, gateway := range s.Routes[to] {
			if outOf(name, gateway, s) {
				b.WriteString(route(to, gateway, s.Interfaces[name]))
			}
		}
	}
	return b.String()
}

// outOf says whether the gateway is reached by the interface: by the one whose
// network it is in, else by the first of them all.
func outOf(name, gateway string, s Settings) bool {
	names := interfaces(s)
	for _, n := range names {
		if onLink(gateway, s.Interfaces[n]) {
			return n == name
		}
	}
	return name == names[0]
}

func onLink(gateway string, addresses []string) bool {
	g, err := netip.ParseAddr(gateway)
	return err == nil && slices.ContainsFunc(addresses, func(a string) bool {
		p, err := netip.ParsePrefix(a)
		return err == nil && p.Contains(g)
	})
}

func route(to, gateway string, addresses []string) string {
	t := "\n[Route]\n"
	if to != "default" {
		t += "Destination=" + to + "\n"
	}
	t += "Gateway=" + gateway + "\n"
	if !onLink(gateway, addresses) {
		t += "GatewayOnLink=yes\n" // a point-to-point link, as hosting companies have them
	}
	return t
}

// render makes the records of one operator (systemd.io/USER_RECORD) and the
// keys for sshd. The password stands in a file of its own that only root reads.
func (o Operator) render(f Files, uid int) {
	user := map[string]any{
		"userName": o.Name, "uid": uid, "gid": operatorGroup, "disposition": "regular",
		"homeDirectory": "/" + path.Join(operatorDir, o.Name), "shell": shell,
	}
	private := map[string]any{}
	if o.Password != "" {
		private["hashedPassword"] = []string{o.Password}
	}
	at := path.Join(userDir, o.Name)
	f[at+".user"] = text(encode(user))
	f[at+".user-privileged"] = File{Text: encode(map[string]any{"privileged": private}), Mode: 0o600}
	f[path.Join(userDir, fmt.Sprintf("%d.user", uid))] = File{Link: o.Name + ".user"}
	f[path.Join(userDir, fmt.Sprintf("%d.user-privileged", uid))] = File{Link: o.Name + ".user-privileged"}
	f[path.Join(operatorDir, o.Name)] = File{Dir: true, Mode: fs.ModeDir | 0o700, Owner: uid, Group: operatorGroup}
	if len(o.Keys) > 0 {
		f[path.Join(ownDir, "keys", o.Name)] = text(strings.Join(o.Keys, "\n") + "\n")
	}
}

// encode never fails: what it gets are texts and numbers.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

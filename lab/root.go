package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// accounts are the users of a host, whatever the machine's own are called.
// Packages that are unpacked and not installed find theirs here.
var accounts = []struct {
	name string
	id   int
	home string
}{
	{"root", 0, "/root"},
	{"daemon", 1, "/usr/sbin"},
	{"mail", 8, "/var/mail"},
	{"weir-mail", 900, "/nonexistent"},
	{"weir-web", 901, "/nonexistent"},
	{"postfix", 910, "/var/spool/postfix"},
	{"postdrop", 911, "/nonexistent"},
	{"vmail", 912, "/var/mail"},
	{"unbound", 913, "/var/lib/unbound"},
	{"Debian-exim", 914, "/var/spool/exim4"},
	{"opensmtpd", 915, "/var/lib/opensmtpd"},
	{"opensmtpq", 916, "/var/lib/opensmtpd"},
	{"nobody", 65534, "/nonexistent"},
}

// UserID is the id of one of the host's users.
func (h *Host) UserID(name string) int { return userID(name) }

// userID is the id of one of the accounts, and of the group of its name.
func userID(name string) int {
	for _, a := range accounts {
		if a.name == name {
			return a.id
		}
	}
	panic("lab: no account is called " + name)
}

// mountRoot gives the host its root. It is a plain directory with the parts
// mounted into it that all hosts share and those that the kernel makes for each
// network and process namespace.
func (h *Host) mountRoot() error {
	if err := layRoot(h.root, "/usr"); err != nil {
		return err
	}
	return h.Do(func() error {
		if err := unix.Mount(h.root, h.root, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind the root: %w", err)
		}
		if err := mountShared(h.root, "/usr"); err != nil {
			return err
		}
		if err := bind("/etc/ssl", filepath.Join(h.root, "etc/ssl"), unix.MS_RDONLY); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		cache, err := cacheDir()
		if err != nil {
			return err
		}
		if err := bind(cache, filepath.Join(h.root, packagesAt), unix.MS_RDONLY); err != nil {
			return err
		}
		share := h.lab.Dir()
		if err := bind(share, filepath.Join(h.root, share), 0); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte(h.Name)); err != nil {
			return err
		}
		return pivot(h.root)
	})
}

// layRoot makes the directories and files of a root whose programs come from
// usr.
func layRoot(root, usr string) error {
	for _, dir := range []string{
		"usr", "dev/shm", "proc", "sys", "etc", "run", "root", "srv", "opt",
		"var/cache", "var/lib", "var/log", "var/mail", "var/spool",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		path := filepath.Join(root, dir)
		if err := os.MkdirAll(path, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o1777); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return writeEtc(filepath.Join(root, "etc"), usr)
}

// writeEtc writes what the C library and servers look for.
func writeEtc(etc, usr string) error {
	var passwd, group strings.Builder
	for _, a := range accounts {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", a.name, a.id, a.id, a.home)
		fmt.Fprintf(&group, "%s:x:%d:\n", a.name, a.id)
	}
	files := map[string]string{
		"passwd":        passwd.String(),
		"group":         group.String(),
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"services":      "smtp 25/tcp mail\ndomain 53/tcp\ndomain 53/udp\nsubmission 587/tcp\nlmtp 24/tcp\n",
		"protocols":     "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\n",
	}
	if usr == "/usr" { // the machine's own programs find their libraries by its cache
		cache, err := os.ReadFile("/etc/ld.so.cache")
		if err == nil {
			files["ld.so.cache"] = string(cache)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mountShared mounts what every root needs: programs and the kernel's file
// systems.
func mountShared(root, usr string) error {
	if err := bind(usr, filepath.Join(root, "usr"), unix.MS_RDONLY); err != nil {
		return err
	}
	for _, m := range []struct{ fstype, at string }{
		{"proc", "proc"}, {"sysfs", "sys"}, {"bpf", "sys/fs/bpf"}, {"tmpfs", "dev"},
	} {
		if err := unix.Mount(m.fstype, filepath.Join(root, m.at), m.fstype, unix.MS_NOSUID, ""); err != nil {
			return fmt.Errorf("mount %s on /%s: %w", m.fstype, m.at, err)
		}
	}
	return mountDev(filepath.Join(root, "dev"))
}

// mountDev takes over the harmless devices. Binding them needs no right to make
// device nodes.
func mountDev(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+name, filepath.Join(dev, name), 0); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o1777); err != nil {
		return err
	}
	return os.Chmod(shm, 0o1777)
}

// bind shows from at to, which is made when it is not there.
func bind(from, to string, flags uintptr) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else {
		err = os.WriteFile(to, nil, 0o644)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	if flags == 0 {
		return nil
	}
	// A bind takes no other flags at first.
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("remount %s: %w", to, err)
	}
	return nil
}

// pivot makes root the root of this mount namespace, for the keeper too, and
// lets the machine's go.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// The old root is stacked on the new one and taken off again: no directory
	// for it is needed (pivot_root(2), Notes).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot into the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the machine's root: %w", err)
	}
	return unix.Chdir("/")
}

// writeResolver names the host's resolver in all its roots; without one, a
// look-up fails at once.
func (h *Host) writeResolver(server netip.Addr) error {
	text := "# no name server in this lab\n"
	if server.IsValid() {
		text = fmt.Sprintf("nameserver %s\noptions timeout:2 attempts:2\n", server)
	}
	for _, root := range append([]string{"/"}, h.roots...) {
		if err := os.WriteFile(h.Path(root+"/etc/resolv.conf"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

package machine

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailweir/image/slot"
)

// Slots is the disk that this machine runs from.
func Slots() (slot.Machine, error) {
	m := slot.Machine{ESP: "/efi", EFIVars: "/sys/firmware/efi/efivars"}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return m, err
	}
	m.Cmdline = string(cmdline)
	// The partition of the boot loaders and the slots are on one disk.
	esp, err := filepath.EvalSymlinks("/dev/disk/by-partlabel/esp")
	if err != nil {
		return m, fmt.Errorf("find the disk: %w", err)
	}
	sys, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", filepath.Base(esp)))
	if err != nil {
		return m, fmt.Errorf("find the disk of %s: %w", esp, err)
	}
	m.Device = filepath.Join("/dev", filepath.Base(filepath.Dir(sys)))
	if m.Version, err = imageVersion("/usr/lib/os-release"); err != nil {
		return m, err
	}
	epoch, err := os.Stat("/usr/lib/clock-epoch") // made with the image
	if err != nil {
		return m, err
	}
	m.Released = epoch.ModTime().Unix()
	m.Keys, err = updateKeys("/usr/share/mailweir/update.pub")
	return m, err
}

func imageVersion(osRelease string) (string, error) {
	b, err := os.ReadFile(osRelease)
	if err != nil {
		return "", fmt.Errorf("read which version runs: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "IMAGE_VERSION="); ok {
			return strings.Trim(v, `"`), nil
		}
	}
	return "", fmt.Errorf("%s names no IMAGE_VERSION", osRelease)
}

// updateKeys reads public keys in PEM: that of now, and the next one.
func updateKeys(path string) (keys []ed25519.PublicKey, err error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read whom updates are taken from: %w", err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return keys, nil
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		k, ok := key.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("%s has a key that is not Ed25519", path)
		}
		keys = append(keys, k)
	}
}

// Greeted is nil when a listener of ours takes part in a session. While the
// operator keeps the door closed, that it says so is all that it can show: a
// version is not given up for what he wanted.
func Greeted(ctx context.Context, listener string, closed bool) error {
	at, err := netip.ParseAddrPort(listener)
	if err != nil {
		return err
	}
	if at.Addr().IsUnspecified() {
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if at.Addr().Is6() {
			loopback = netip.IPv6Loopback()
		}
		at = netip.AddrPortFrom(loopback, at.Port())
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return fmt.Errorf("mail does not answer: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	for _, command := range []string{"", "HELO localhost\r\n", "QUIT\r\n"} {
		io.WriteString(conn, command)
		line, err := in.ReadString('\n')
		if closed && err == nil && strings.HasPrefix(line, "421 4.3.2 ") {
			return nil
		}
		if err != nil || line[0] != '2' {
			return fmt.Errorf("mail at %v answers %q (%v)", at, strings.TrimSpace(line), err)
		}
	}
	return nil
}

func Reboot(ctx context.Context) error { return runCommand(ctx, "systemctl", "reboot") }

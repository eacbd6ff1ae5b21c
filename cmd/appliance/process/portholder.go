package process

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holder is a process that has a listening socket.
type holder struct {
	Pid  int
	Name string
}

func (h holder) String() string { return fmt.Sprintf("%s (pid %d)", h.Name, h.Pid) }

// portHolder finds the process that listens where a cannot: on the same port,
// at the same address or at a wildcard. It reads what proc(5) shows; without
// root it sees its own processes only.
func portHolder(a netip.AddrPort) (holder, bool) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		inode, ok := listenerInode(f, a)
		f.Close()
		if !ok {
			continue
		}
		if h, ok := inodeHolder(inode); ok {
			return h, true
		}
	}
	return holder{}, false
}

// listenerInode reads a table like /proc/net/tcp and returns the inode of the
// socket that listens in the way of a.
func listenerInode(table io.Reader, a netip.AddrPort) (inode string, ok bool) {
	const listening = "0A"
	for sc := bufio.NewScanner(table); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[3] != listening {
			continue
		}
		local, err := parseProcAddr(f[1])
		if err != nil || local.Port() != a.Port() {
			continue
		}
		if local.Addr() == a.Addr() || local.Addr().IsUnspecified() || a.Addr().IsUnspecified() {
			return f[9], true
		}
	}
	return "", false
}

// parseProcAddr reads 0100007F:0019, the address in words of the machine's
// byte order (little-endian on every machine we run on).
func parseProcAddr(s string) (netip.AddrPort, error) {
	addr, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	if !ok || err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("read address %q of /proc/net/tcp", s)
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(b)
	p, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("read address %q of /proc/net/tcp", s)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(p)), nil
}

// inodeHolder finds the process that has the socket open.
func inodeHolder(inode string) (holder, bool) {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return holder{}, false
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue // it ended meanwhile
		}
		return holder{pid, strings.TrimSpace(string(name))}, true
	}
	return holder{}, false
}

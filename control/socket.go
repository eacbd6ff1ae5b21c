package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is a unix socket that a role offers.
type Socket struct {
	Path   string
	Mode   os.FileMode // of the socket file, such as 0o600
	UID    int         // owner of the socket file; -1 leaves it with the process
	GID    int         // its group; -1 leaves it
	Packet bool        // SOCK_SEQPACKET (messages) in place of SOCK_STREAM
}

// Listen makes the socket. What a dead process left at Path is removed; a
// living one is left alone and is an error. The directory has to be there.
func (s Socket) Listen() (*net.UnixListener, error) {
	if err := s.clear(); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix(s.network(), &net.UnixAddr{Name: s.Path, Net: s.network()})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	if err := s.setOwner(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (s Socket) network() string {
	if s.Packet {
		return "unixpacket"
	}
	return "unix"
}

// setOwner comes after bind: between the two the file has the mode of the
// umask, which is why servers ask for the peer's user id as well.
func (s Socket) setOwner() error {
	if err := os.Chmod(s.Path, s.Mode); err != nil {
		return fmt.Errorf("set mode of %s: %w", s.Path, err)
	}
	if s.UID < 0 && s.GID < 0 {
		return nil
	}
	if err := os.Lchown(s.Path, s.UID, s.GID); err != nil {
		return fmt.Errorf("give %s to user %d: %w", s.Path, s.UID, err)
	}
	return nil
}

// clear removes the socket of a dead process: one that nobody listens on.
func (s Socket) clear() error {
	info, err := os.Lstat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way and is no socket: move it away", s.Path)
	}
	c, err := net.DialTimeout(s.network(), s.Path, time.Second)
	if err == nil {
		pid := listenerPID(c)
		c.Close()
		return fmt.Errorf("another process%s listens on %s: stop it first, or use another run_dir", pid, s.Path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%s is in use: %w", s.Path, err)
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a dead process left: %w", err)
	}
	return nil
}

func listenerPID(c net.Conn) string {
	if u, ok := c.(*net.UnixConn); ok {
		if cred, err := PeerCredentials(u); err == nil {
			return fmt.Sprintf(" (pid %d)", cred.Pid)
		}
	}
	return ""
}

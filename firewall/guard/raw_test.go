package guard

import (
	"errors"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connectRaw connects to an address that package unix cannot express.
func connectRaw(fd int, to *unix.RawSockaddrAny) error {
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrAny); errno != 0 {
		return errno
	}
	return nil
}

func upLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func asNetError(err error, target *net.Error) bool { return errors.As(err, target) }

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

// sendEmpty sends a message of no bytes with descriptors; package unix would put
// a byte into it.
func sendEmpty(fd int, descriptors ...int) error {
	oob := unix.UnixRights(descriptors...)
	msg := unix.Msghdr{Control: &oob[0]}
	msg.SetControllen(len(oob))
	if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL); errno != 0 {
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

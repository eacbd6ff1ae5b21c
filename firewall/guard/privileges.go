package guard

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the capabilities guard needs for life: it attaches to interfaces
// that come later, grows its tables, and resets the sessions of the banned.
var kept = []int{unix.CAP_NET_ADMIN, unix.CAP_PERFMON, unix.CAP_BPF}

// DropPrivileges gives up, in every thread and for ever, every capability but
// CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. The user id stays that of root, so
// that root's own files can be read and written, but no others: without
// CAP_DAC_OVERRIDE their modes hold. It works in programs built without cgo,
// since only there Go can reach all threads.
func DropPrivileges() error {
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := 0; c <= last; c++ {
		if !isKept(c) {
			if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
				return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
			}
		}
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := setCapabilities(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// niceness of guard, see setpriority(2).
const niceness = -10

// Hurry has the kernel let guard run before others who want the processor: it
// has little to do, and packets of the offender come in until it is done. Where
// CAP_SYS_NICE is missing it returns an error, and guard only waits its turn.
// DropPrivileges gives that up, so it comes later.
func Hurry() error {
	nice := niceness
	if err := allThreads(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(nice)); err != nil {
		return fmt.Errorf("ask for niceness %d: %w", nice, err)
	}
	return nil
}

func isKept(c int) bool {
	for _, k := range kept {
		if k == c {
			return true
		}
	}
	return false
}

// lastCapability asks the kernel where its list ends: newer ones have more.
func lastCapability() (int, error) {
	for c := 0; c < 64; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); errors.Is(err, unix.EINVAL) {
			return c - 1, nil
		} else if err != nil {
			return 0, fmt.Errorf("read the bounding set: %w", err)
		}
	}
	return 63, nil
}

// setCapabilities keeps those of kept that there are. One that the service
// manager did not give is no reason to end: an engine says that it lacks it, and
// the other may do without.
func setCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, data [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for _, c := range kept {
		bit := have[c/32].Permitted & (1 << (c % 32))
		data[c/32].Permitted |= bit
		data[c/32].Effective |= bit
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	return asError(errno)
}

func allThreads(trap, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0)
	return asError(errno)
}

func asError(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errors.New("this program was built with cgo, which hides threads from Go: build it with CGO_ENABLED=0")
	}
	return errno
}

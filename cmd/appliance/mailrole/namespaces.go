package mailrole

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auditArch is what the kernel calls the processors that we know the layout of
// its calls for.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// foreign is where numbers of calls begin that are those of another layout: of
// x32, on amd64.
const foreign = 0x40000000

// namespaces are all that clone(2) can make.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// mounting are the calls by which a process gets namespaces and mounts file
// systems in them.
var mounting = []uint32{
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
}

// withoutNamespaces has the kernel refuse this process new namespaces, for all
// its life. In one of users it would be root, and could mount a file system of
// its own making; a file of that, handed to guard over the offence socket, is
// closed when its maker likes, and until then not even kill -9 ends guard. What it
// would want is what service managers refuse it too (RestrictNamespaces).
func withoutNamespaces() error {
	arch, known := auditArch[runtime.GOARCH]
	if !known {
		return nil
	}
	filter := refuseNamespaces(arch)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// All threads at once: they have no_new_privs, without which this is root's.
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL: // a kernel without filters of calls
		return nil
	case errno != 0:
		return fmt.Errorf("give up namespaces: %w", errno)
	case thread != 0:
		return errors.New("give up namespaces: a thread has a filter of its own")
	}
	return nil
}

// Where in struct seccomp_data things are, on machines that put the low half of
// an argument first.
const (
	callNumber = 0
	callArch   = 4
	firstOfArg = 16
)

// refuseNamespaces is the filter, in classic BPF.
func refuseNamespaces(arch uint32) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	end := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	refuse, unknown := end(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), end(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS))
	skipUnless := func(test uint16, k uint32) unix.SockFilter { // the next instruction
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jf: 1}
	}
	f := []unix.SockFilter{
		load(callArch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jt: 1}, refuse,
		load(callNumber), skipUnless(unix.BPF_JGE, foreign), refuse,
	}
	for _, call := range mounting {
		f = append(f, skipUnless(unix.BPF_JEQ, call), refuse)
	}
	// The flags of clone3 are in memory, where no filter looks; who asks for it
	// takes clone where there is none.
	f = append(f, skipUnless(unix.BPF_JEQ, unix.SYS_CLONE3), unknown)
	return append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		load(firstOfArg), skipUnless(unix.BPF_JSET, namespaces), refuse,
		end(unix.SECCOMP_RET_ALLOW))
}

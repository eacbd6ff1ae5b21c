package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// bpffs is where the BPF file system belongs.
const bpffs = "/sys/fs/bpf"

// minKernel is Linux 6.1, the oldest we load the program on in tests.
const minKernel = 6<<16 | 1<<8

// checkSystem finds out what would make the kernel refuse us in words that
// help nobody.
func checkSystem(pinDir string) error {
	version, err := features.LinuxVersionCode()
	if err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	if err := checkKernel(version); err != nil {
		return err
	}
	if missing := missingCapabilities(); len(missing) > 0 {
		return fmt.Errorf("load the packet program: this process lacks %s (start it as root, or let the service manager give it these): %w",
			strings.Join(missing, ", "), os.ErrPermission)
	}
	return preparePinDir(pinDir)
}

func checkKernel(version uint32) error {
	if version < minKernel {
		return fmt.Errorf("load the packet program: Linux %d.%d is too old (6.1 is needed; or set firewall.engine to \"nft\")", version>>16, version>>8&0xff)
	}
	return nil
}

// needed are the capabilities for maps and programs, for interfaces, and for
// what the verifier lets only measuring programs do.
var needed = []struct {
	bit  int
	name string
}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}}

func missingCapabilities() (names []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil // the kernel's own refusal will have to do
	}
	effective := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	if effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		effective |= 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON // which it includes
	}
	for _, c := range needed {
		if effective&(1<<c.bit) == 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// preparePinDir makes the directory, and mounts the BPF file system where it
// belongs if nobody has.
func preparePinDir(dir string) error {
	if !onBPFFS(dir) && strings.HasPrefix(filepath.Clean(dir)+"/", bpffs+"/") {
		if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mount the BPF file system on %s (mount -t bpf bpf %s, as root, helps): %w", bpffs, bpffs, err)
		}
	}
	if !onBPFFS(dir) {
		return fmt.Errorf("pin maps in %s: it is not in a BPF file system (choose a directory under %s)", dir, bpffs)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of pins: %w", err)
	}
	return nil
}

// onBPFFS looks at the nearest directory above that exists.
func onBPFFS(dir string) bool {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC
		}
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

// explain adds to a refusal of the kernel what to do about it.
func explain(what string, err error) error {
	var refused *ebpf.VerifierError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return fmt.Errorf("%s: this kernel's verifier refuses it (set firewall.engine to \"nft\" and report this): %w", what, err)
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: the kernel refuses (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; a locked-down kernel refuses all the same): %w", what, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%s: this kernel has no BPF (set firewall.engine to \"nft\"): %w", what, err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%s: no memory for it (add memory, or set firewall.engine to \"nft\"): %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// full explains a refused insertion.
func full(err error, capacity int) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the table of %d bans is full (lift some, or ban wider prefixes): %w", capacity, err)
	}
	return err
}

package lab

import (
	"os/exec"
	"path/filepath"
)

// A Root is a second root directory on a host, whose programs come from
// packages that are unpacked there and not installed. /etc and /var are empty
// but for what every root has; who uses it brings the configuration.
type Root struct {
	host     *Host
	at       string // as the host sees it
	packages string // where they are unpacked, as this process sees it
}

// Root makes a root with the programs of packages and of what they depend on,
// in the version of this machine's release.
func (h *Host) Root(name string, packages ...string) *Root {
	h.lab.t.Helper()
	r := &Root{host: h, at: filepath.Join("/srv", name)}
	if err := r.make(packages); err != nil {
		h.lab.t.Fatalf("make a root with %s on %s: %v", name, h.Name, err)
	}
	return r
}

func (r *Root) make(packages []string) (err error) {
	h := r.host
	if r.packages, err = unpacked(h.lab.ctx, packages...); err != nil {
		return err
	}
	usr := filepath.Join(packagesAt, filepath.Base(r.packages), "usr")
	if err := layRoot(h.Path(r.at), usr); err != nil {
		return err
	}
	if err := h.Do(func() error { return mountShared(r.at, usr) }); err != nil {
		return err
	}
	h.roots = append(h.roots, r.at)
	return h.writeResolver(h.lab.resolver)
}

// Path is where this process finds a file of the root.
func (r *Root) Path(name string) string { return r.host.Path(filepath.Join(r.at, name)) }

// Packages is where this process finds the packages' own files, such as the
// configuration they ship.
func (r *Root) Packages(name string) string { return filepath.Join(r.packages, name) }

// Command prepares a program of the root, for Host.Start and Host.RunCommand.
func (r *Root) Command(name string, args ...string) *exec.Cmd {
	cmd := r.host.Command(name, args...)
	cmd.SysProcAttr.Chroot = r.at
	return cmd
}

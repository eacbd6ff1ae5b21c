package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CacheEnv names the variable that says where unpacked packages are kept.
const CacheEnv = "MAILWEIR_LAB_CACHE"

const defaultCache = "/var/cache/mailweir-lab"

// unpackVersion changes when what unpack does changes, so that a cache made
// the old way is not taken for a new one.
const unpackVersion = "1"

// plumbing is what scripts and servers take for granted and no package depends
// on, because every Debian has it.
var plumbing = []string{"dash", "coreutils", "sed", "grep", "diffutils", "findutils"}

// packagesAt is where every host sees the cache.
const packagesAt = "/opt/packages"

// Unpacked is a directory with the files of packages, for what is no host of a
// lab: below usr, as they would be installed.
func Unpacked(ctx context.Context, packages ...string) (string, error) {
	return unpacked(ctx, packages...)
}

// unpacked returns a directory with the programs and libraries of packages and
// of everything they depend on, of the release that this machine's apt knows.
// Nothing is installed: mail servers exclude each other as packages, and one
// that is installed would replace the machine's own. It is made once and kept.
func unpacked(ctx context.Context, packages ...string) (string, error) {
	base, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, cacheName(packages))
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp := dir + ".part"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := unpack(ctx, tmp, append(slices.Clone(plumbing), packages...)); err != nil {
		return "", fmt.Errorf("unpack %s into %s: %w", strings.Join(packages, " "), tmp, err)
	}
	return dir, os.Rename(tmp, dir)
}

func cacheDir() (string, error) {
	dir := os.Getenv(CacheEnv)
	if dir == "" {
		dir = defaultCache
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// cacheName tells one release's packages from another's: the same name is
// another version there.
func cacheName(packages []string) string {
	release, _ := os.ReadFile("/etc/os-release")
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", unpackVersion, release, strings.Join(packages, " ")))
	return fmt.Sprintf("%s-%x", packages[0], sum[:4])
}

// lockFile waits for the lock of a file: several test programs may want the
// same packages at once.
func lockFile(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// unpack downloads packages with apt, as if nothing were installed, and takes
// them apart.
func unpack(ctx context.Context, dir string, packages []string) error {
	archives, err := download(ctx, dir+".apt", packages)
	defer os.RemoveAll(dir + ".apt")
	if err != nil {
		return err
	}
	if err := layMerged(dir); err != nil {
		return err
	}
	for _, deb := range archives {
		if err := extract(ctx, deb, dir); err != nil {
			return fmt.Errorf("take %s apart: %w", filepath.Base(deb), err)
		}
	}
	return nil
}

// download has apt work out the dependencies against an empty machine.
func download(ctx context.Context, dir string, packages []string) ([]string, error) {
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	status := filepath.Join(dir, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	args := []string{
		"install", "--download-only", "--no-install-recommends", "-qq", "-y",
		"-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + dir,
		"-o", "Debug::NoLocking=1", // the machine's own apt is not in the way
		"-o", "APT::Sandbox::User=root",
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(args, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("download packages: %w: %s(is there a network, and does apt-get update work?)", err, lastLines(out))
	}
	return filepath.Glob(filepath.Join(dir, "*.deb"))
}

func lastLines(out []byte) []byte {
	const most = 500
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return append(bytes.TrimSpace(out), ' ')
}

// layMerged makes the links of a merged /usr: packages that still ship /bin or
// /lib then land where all others do.
func layMerged(dir string) error {
	for _, sub := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(dir, "usr", sub), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+sub, filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	return nil
}

// extract unpacks one package. Ids are taken as numbers, because names would
// mean the users of this machine, and a link such as /bin stays a link.
func extract(ctx context.Context, deb, dir string) error {
	from := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	to := exec.CommandContext(ctx, "tar", "-x", "--numeric-owner", "--keep-directory-symlink", "-C", dir)
	var fromSaid, toSaid bytes.Buffer // two, since two goroutines write
	from.Stderr, to.Stderr = &fromSaid, &toSaid
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	err = to.Run()
	if err = errors.Join(from.Wait(), err); err != nil {
		return fmt.Errorf("%w: %s%s", err, lastLines(fromSaid.Bytes()), lastLines(toSaid.Bytes()))
	}
	return nil
}

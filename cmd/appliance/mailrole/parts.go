package mailrole

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/smtp/complaint"
)

// harvestKey is the key of the recipients' hashes.
func harvestKey(dir string) (key [2]uint64, err error) {
	b, err := keptKey(filepath.Join(dir, "harvest.key"), 16)
	if err != nil {
		return key, err
	}
	return [2]uint64{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

// sealKey is the key of the seals in our Received fields.
func sealKey(dir string) (key complaint.Key, err error) {
	b, err := keptKey(filepath.Join(dir, "seal.key"), len(key))
	copy(key[:], b)
	return key, err
}

// keptKey is a random key of n bytes, made at the first start. One of another
// length was damaged: it is set aside, and one is made anew.
func keptKey(path string, n int) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) != n {
		if err = os.Rename(path, path+settings.SetAside); err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, n)
		rand.Read(b) // never fails, see crypto/rand
		err = config.WriteFile(path, b, 0o600, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("keep a key: %w (has the disk of %s room, and may users.mail write there?)", err, filepath.Dir(path))
	}
	return b, nil
}

// PrepareFolders makes the folders that the mail role's user owns. Only
// root can: weir run, or the mail role before it becomes that user.
func PrepareFolders(cfg config.Config, runDir string, user *syscall.Credential) error {
	for dir, mode := range map[string]os.FileMode{
		filepath.Join(cfg.StateDir, "mail"):  0o700,
		filepath.Dir(mailapi.Socket(runDir)): 0o700,
	} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("make %s: %w", filepath.Dir(dir), err)
		}
		if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := os.Lchown(dir, int(user.Uid), int(user.Gid)); err != nil {
			return fmt.Errorf("give %s to the mail role: %w", dir, err)
		}
	}
	return nil
}

// becomeMailUser gives up root for good. A role that was started as users.mail
// already has nothing to give up; as any other user it would leave files that
// the next start cannot read.
func becomeMailUser(cfg config.Config, runDir string) error {
	user, err := settings.LookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	switch uint32(os.Geteuid()) {
	case user.Uid:
		return nil
	case 0:
	default:
		return fmt.Errorf("the mail role was started as user id %d: start it as root or as %s", os.Geteuid(), cfg.Users.Mail)
	}
	if err := PrepareFolders(cfg, runDir, user); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(user.Gid)), syscall.Setuid(int(user.Uid))); err != nil {
		return fmt.Errorf("become %s: %w", cfg.Users.Mail, err)
	}
	return nil
}

// harden sees to it that the role has no capability left and can never gain
// one, not even by running a set-user-ID program or as root of a namespace.
func harden() error {
	// Every thread has its own flag, so every thread has to be told.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up new privileges: %w (weir has to be built with CGO_ENABLED=0)", errno)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err == nil && !strings.Contains(string(status), "CapPrm:\t0000000000000000") {
		return errors.New("the mail role was started with a capability: give it none, it needs none")
	}
	return withoutNamespaces()
}

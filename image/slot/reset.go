package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// Reset has the next start erase settings and data, that one only. It is the
// boot loader's: of the two, the one that started this machine is told.
func (m Machine) Reset() error {
	if _, err := os.Stat(m.EFIVars); err == nil {
		return oneShot(m.EFIVars, Product+"_"+m.Version+".efi@factory-reset")
	}
	c := esp(m.ESP).choice()
	if c.Cur == "" {
		c.Cur = m.Version
	}
	c.Reset = "1"
	return esp(m.ESP).choose(c)
}

// oneShotName is the variable by which systemd-boot is told what to start next,
// once, in its own name space (systemd.io/BOOT_LOADER_INTERFACE).
const oneShotName = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// oneShot writes an EFI variable: its attributes (kept, seen at boot and by the
// running system), and the id of the entry in UTF-16.
func oneShot(dir, id string) error {
	b := binary.LittleEndian.AppendUint32(nil, 7)
	for _, u := range utf16.Encode([]rune(strings.ToLower(id) + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	path := filepath.Join(dir, oneShotName)
	if err := removeVariable(path); err != nil {
		return fmt.Errorf("tell the boot loader: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil { // in one write, as efivarfs wants it
		return fmt.Errorf("tell the boot loader: %w", err)
	}
	return nil
}

// removeVariable removes a variable that may be there. The kernel guards most
// of them against rm by the attribute immutable.
func removeVariable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&immutable != 0 {
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// Reset has the next start erase settings and data, that one only. Under UEFI a
// variable of the firmware says so, else GRUB.
func (m Machine) Reset() error {
	if _, err := os.Stat(m.EFIVars); err == nil {
		return factoryReset(m.EFIVars)
	}
	c := esp(m.ESP).choice()
	if c.Cur == "" {
		c.Cur = m.Version
	}
	c.Reset = "1"
	return esp(m.ESP).choose(c)
}

// resetName is the variable by which systemd-repart is told to erase what is
// marked so, which it takes away when that is done (systemd-repart(8)).
const resetName = "FactoryReset-8cf2644b-4b0b-428f-9387-6d876050dc67"

// factoryReset writes an EFI variable: its attributes (kept, seen at boot and by
// the running system), and true in UTF-16.
func factoryReset(dir string) error {
	b := binary.LittleEndian.AppendUint32(nil, 7)
	for _, u := range utf16.Encode([]rune("true\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	path := filepath.Join(dir, resetName)
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

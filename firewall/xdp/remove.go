package xdp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"mailweir/firewall"
)

// Remove takes everything out: Table can be used again after it.
func (t *Table) Remove(ctx context.Context) error {
	defer t.lockWhole()()
	err := t.release()
	t.rules, t.configured = firewall.Rules{}, false
	return errors.Join(err, Remove(ctx, t.opt.PinDir))
}

// Remove takes out whatever Mailweir has pinned in pinDir (DefaultPinDir when
// it is empty) and what is attached to interfaces, whoever put it there and
// whether or not that one is alive. With nothing there it does nothing.
func Remove(ctx context.Context, pinDir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	p := pins(pinDir)
	for _, q := range append(p.former(), p) {
		err := detachStrays(programName(string(q)))
		if err = errors.Join(q.detachAll(), err); err != nil {
			// Maps of a program that still runs stay, or it could not be mended.
			return explain("take the packet program out", err)
		}
		if err := os.RemoveAll(string(q)); err != nil {
			return explain("remove pins", err)
		}
	}
	return removeEmpty(filepath.Dir(pinDir))
}

// removeEmpty removes the directory above the pins when nothing else is there
// and it is in the BPF file system.
func removeEmpty(dir string) error {
	if filepath.Base(dir) != "mailweir" {
		return nil
	}
	err := os.Remove(dir)
	if left, _ := os.ReadDir(dir); err != nil && len(left) == 0 && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// detachStrays detaches programs of ours whose link is not pinned any more.
func detachStrays(name string) error {
	list, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs error
	for _, nl := range list {
		if d := deviceOf(nl); d.prog != 0 && nameOf(d.prog) == name {
			errs = errors.Join(errs, detachStray(d))
		}
	}
	return errs
}

func detachStray(d device) error {
	l, err := linkOf(d.prog)
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return fmt.Errorf("interface %s: detach: %w", d.name, err)
	}
	return nil
}

package slot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"mailweir/disk"
)

// tries is how often a new version may fail to come up.
const tries = 3

// esp is the EFI system partition, where both boot loaders look. FAT has no
// journal: what is written is written beside, synced, read again and renamed.
type esp string

// images are the kernel images that are there, by version. A name carries how
// many tries are left and were made, as systemd-boot counts them:
// mailweir_1.2.3+2-1.efi (systemd-boot(7), boot counting).
func (e esp) images() (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(string(e), "EFI/Linux", Product+"_*.efi"))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, f := range files {
		if m := imageName.FindStringSubmatch(filepath.Base(f)); m != nil {
			all[m[1]] = f
		}
	}
	return all, nil
}

var imageName = regexp.MustCompile(`^` + Product + `_([^+]+)(\+\d+(-\d+)?)?\.efi$`)

func (e esp) imagePath(version, counter string) string {
	return filepath.Join(string(e), "EFI/Linux", Product+"_"+version+counter+".efi")
}

func (e esp) entryPath(version string) string {
	return filepath.Join(string(e), "grub", Product+"_"+version+".cfg")
}

// forget takes a version out of both boot loaders.
func (e esp) forget(version string) error {
	images, err := e.images()
	if err != nil || version == "" {
		return err
	}
	for _, f := range []string{images[version], e.entryPath(version)} {
		if f == "" {
			continue
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("take %s out of the boot loader: %w", version, err)
		}
	}
	return nil
}

// count gives the image of a version another counter: "+3" has three tries,
// "+0" is not to be started while there is another, "" is known to be good.
func (e esp) count(version, counter string) error {
	images, err := e.images()
	if err != nil {
		return err
	}
	now, to := images[version], e.imagePath(version, counter)
	if now == "" {
		return fmt.Errorf("the boot loader has no image of %s", version)
	}
	if now == to {
		return nil
	}
	if err := os.Rename(now, to); err != nil {
		return fmt.Errorf("set the counter of %s: %w", version, err)
	}
	return disk.SyncDir(filepath.Dir(to))
}

// put writes a file, and holds that it can be read again as it was written.
func put(path string, part Part, r io.Reader) error {
	tmp := path + ".new"
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp)
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	b, err := os.ReadFile(tmp)
	if err != nil {
		return fmt.Errorf("read %s again: %w", path, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != part.SHA256 {
		return fmt.Errorf("what was written to %s reads otherwise: the disk is bad", path)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return disk.SyncDir(filepath.Dir(path))
}

// choice is what GRUB reads (grub.cfg of the image). It is a hint: GRUB starts
// any version when it cannot read it.
type choice struct {
	Cur   string // what is started
	Prev  string // what is started when tries is "0"
	Tries string // "" when cur is known to be good
	Reset string // "1": the next start erases all data
}

// grubenv is a block of a fixed size that GRUB writes in place.
const (
	envHead = "# GRUB Environment Block\n"
	envSize = 1024
)

func (e esp) envPath() string { return filepath.Join(string(e), "grub/grubenv") }

// choice reads what GRUB would; one that is damaged says nothing.
func (e esp) choice() (c choice) {
	b, err := os.ReadFile(e.envPath())
	if err != nil || !bytes.HasPrefix(b, []byte(envHead)) {
		return choice{}
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "cur":
			c.Cur = value
		case "prev":
			c.Prev = value
		case "tries":
			c.Tries = value
		case "reset":
			c.Reset = value
		}
	}
	return c
}

// choose tells GRUB; what it knows already is not written again.
func (e esp) choose(c choice) error {
	if e.choice() == c {
		return nil
	}
	text := fmt.Sprintf("%scur=%s\nprev=%s\ntries=%s\nreset=%s\n", envHead, c.Cur, c.Prev, c.Tries, c.Reset)
	if len(text) > envSize {
		return fmt.Errorf("tell GRUB: its block holds %d bytes, and names of versions of %d and %d do not fit", envSize, len(c.Cur), len(c.Prev))
	}
	text += strings.Repeat("#", envSize-len(text))
	err := disk.Replace(e.envPath(), 0o644, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return fmt.Errorf("tell GRUB: %w", err)
	}
	return nil
}

package main

import (
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const sector = 512

// embedGRUB patches boot.img and core.img as grub-bios-setup does, which wants
// a device: where the BIOS boot partition begins, the first holds the sector of
// the second, and the second a list of its own blocks
// (grub-core/boot/i386/pc/boot.S and diskboot.S).
func embedGRUB(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: pack grub BOOT.IMG CORE.IMG")
	}
	boot, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	core, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	boot, core = patchGRUB(boot, core)
	return errors.Join(os.WriteFile(args[0], boot, 0o644), os.WriteFile(args[1], core, 0o644))
}

func patchGRUB(boot, core []byte) ([]byte, []byte) {
	const (
		partition     = 2048  // sector at which the BIOS boot partition begins
		kernelSector  = 0x5c  // in boot.img: where core.img is
		bootDrive     = 0x64  // 0xff: the drive that the BIOS booted
		driveCheck    = 0x66  // a jump that must not be taken on a hard disk
		blockList     = 0x1f4 // in core.img: sector, count, segment of the rest
		afterDiskboot = 0x820
	)
	binary.LittleEndian.PutUint64(boot[kernelSector:], partition)
	boot[bootDrive] = 0xff
	copy(boot[driveCheck:], []byte{0x90, 0x90})
	if n := len(core) % sector; n != 0 {
		core = append(core, make([]byte, sector-n)...) // CopyBlocks= takes whole sectors only
	}
	binary.LittleEndian.PutUint64(core[blockList:], partition+1)
	binary.LittleEndian.PutUint16(core[blockList+8:], uint16(len(core)/sector-1))
	binary.LittleEndian.PutUint16(core[blockList+10:], afterDiskboot)
	return boot, core
}

// grubEntry prints what GRUB is told of a version: where in the kernel image
// the kernel and the initrd lie, in sectors, and the command line. So both
// firmwares boot one file.
func grubEntry(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: pack grubentry UKI")
	}
	f, err := pe.Open(args[0])
	if err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	defer f.Close()
	text, err := entryOf(f, filepath.Base(args[0]))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	fmt.Print(text)
	return nil
}

func entryOf(f *pe.File, name string) (string, error) {
	blocks := map[string]string{}
	cmdline := ""
	for _, s := range f.Sections { // later profiles have sections of the same names
		if blocks[s.Name] != "" {
			continue
		}
		if s.Offset%sector != 0 {
			return "", fmt.Errorf("section %s begins within a sector, where GRUB cannot read it", s.Name)
		}
		blocks[s.Name] = fmt.Sprintf("(uki)%d+%d", s.Offset/sector, (s.VirtualSize+sector-1)/sector)
		if s.Name == ".cmdline" {
			b, err := s.Data()
			if err != nil {
				return "", fmt.Errorf("read the command line: %w", err)
			}
			cmdline = strings.TrimRight(string(b[:min(int(s.VirtualSize), len(b))]), "\x00 \n")
		}
	}
	if blocks[".linux"] == "" || blocks[".initrd"] == "" || cmdline == "" {
		return "", errors.New("this is no kernel image with an initrd and a command line")
	}
	// While a version is on trial systemd-boot counts its tries in the name.
	find := fmt.Sprintf("for f in ($root)/EFI/Linux/%[1]s.efi ($root)/EFI/Linux/%[1]s+*.efi; do if [ -f $f ]; then loopback uki $f; fi; done\n",
		strings.TrimSuffix(name, ".efi"))
	return find + fmt.Sprintf("linux %s %s $extra\ninitrd %s\n", blocks[".linux"], cmdline, blocks[".initrd"]), nil
}

// partition is one of systemd-repart --json.
type partition struct {
	Type     string `json:"type"`
	UUID     string `json:"uuid"`
	Offset   int64  `json:"offset"`
	Size     int64  `json:"raw_size"`
	RootHash string `json:"roothash"`
}

func readPartitions(path string) ([]partition, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []partition
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return list, nil
}

// rootHash prints the hash that the kernel's command line carries.
func rootHash(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: pack roothash REPART.JSON")
	}
	list, err := readPartitions(args[0])
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.RootHash != "" {
			fmt.Println(p.RootHash)
			return nil
		}
	}
	return fmt.Errorf("%s tells no root hash", args[0])
}

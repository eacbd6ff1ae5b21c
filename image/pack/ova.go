package main

import (
	"archive/tar"
	"crypto/sha256"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// The virtual machine: two processors, 1 GiB, vmxnet3, a paravirtual SCSI disk.
//
//go:embed machine.ovf
var machineOVF string

// makeOVA writes an OVA: a tar of the OVF, a manifest of sums, and the disk, in
// this order (DMTF DSP0243, section 5.3).
func makeOVA(args []string) error {
	f := flag.NewFlagSet("ova", flag.ExitOnError)
	version, vmdk, to := f.String("version", "", ""), f.String("vmdk", "", ""), f.String("o", "", "")
	f.Parse(args)
	disk, err := os.Open(*vmdk)
	if err != nil {
		return err
	}
	defer disk.Close()
	if err := fixStream(*vmdk); err != nil {
		return err
	}
	sum := sha256.New()
	size, err := io.Copy(sum, disk)
	if err != nil {
		return err
	}
	name := "mailweir_" + *version
	ovf := strings.NewReplacer("{{version}}", *version, "{{disk}}", name+".vmdk", "{{size}}", fmt.Sprint(size)).Replace(machineOVF)
	manifest := fmt.Sprintf("SHA256(%[1]s.ovf)= %[2]x\nSHA256(%[1]s.vmdk)= %[3]x\n", name, sha256.Sum256([]byte(ovf)), sum.Sum(nil))
	out, err := os.Create(*to)
	if err != nil {
		return err
	}
	t := tar.NewWriter(out)
	put := func(name string, size int64, r io.Reader) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := io.Copy(t, r)
		return err
	}
	_, err = disk.Seek(0, io.SeekStart)
	return errors.Join(err,
		put(name+".ovf", int64(len(ovf)), strings.NewReader(ovf)),
		put(name+".mf", int64(len(manifest)), strings.NewReader(manifest)),
		put(name+".vmdk", size, disk),
		t.Close(), out.Close())
}

// fixStream takes chance out of the disk's descriptor: qemu-img gives each a
// new content id.
func fixStream(vmdk string) error {
	const cid = "CID="
	f, err := os.OpenFile(vmdk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	at := strings.Index(string(head[:n]), "\n"+cid)
	if at < 0 {
		return errors.New("the disk has no descriptor")
	}
	end := strings.IndexByte(string(head[at+1:n]), '\n')
	digits := end - len(cid)
	_, err = f.WriteAt([]byte(fmt.Sprintf("%0*x", digits, 0xfffffff0>>(4*(8-digits)))), int64(at+1+len(cid)))
	return err
}

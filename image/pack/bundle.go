package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"mailweir/image/slot"
)

// makeKey writes a new key for signing updates, in PKCS #8.
func makeKey(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: pack key FILE")
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file: make a key with openssl genpkey -algorithm ed25519", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no Ed25519 key: make one with openssl genpkey -algorithm ed25519", path)
	}
	return k, nil
}

// publicKey prints the other half, as the image carries it.
func publicKey(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: pack pub FILE")
	}
	key, err := readKey(args[0])
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return pem.Encode(os.Stdout, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// makeBundle takes a version out of a disk and its kernel image.
func makeBundle(args []string) error {
	f := flag.NewFlagSet("bundle", flag.ExitOnError)
	version, keyFile, list := f.String("version", "", ""), f.String("key", "", ""), f.String("parts", "", "")
	disk, uki, entry, to := f.String("disk", "", ""), f.String("uki", "", ""), f.String("entry", "", ""), f.String("o", "", "")
	f.Parse(args)
	key, err := readKey(*keyFile)
	if err != nil {
		return err
	}
	released, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return errors.New("SOURCE_DATE_EPOCH is not set")
	}
	blobs, closeAll, err := openBlobs(*disk, *list, map[string]string{slot.UKI: *uki, slot.Entry: *entry})
	defer closeAll()
	if err != nil {
		return err
	}
	out, err := os.Create(*to)
	if err != nil {
		return err
	}
	m := slot.Manifest{Product: slot.Product, Version: *version, Released: released}
	return errors.Join(slot.WriteBundle(out, key, m, blobs), out.Close())
}

func openBlobs(disk, list string, files map[string]string) (blobs []slot.Blob, closeAll func(), err error) {
	var open []*os.File
	closeAll = func() {
		for _, f := range open {
			f.Close()
		}
	}
	file := func(path string) (*os.File, error) {
		f, err := os.Open(path)
		open = append(open, f)
		return f, err
	}
	partitions, err := readPartitions(list)
	if err != nil {
		return nil, closeAll, err
	}
	d, err := file(disk)
	if err != nil {
		return nil, closeAll, err
	}
	for _, want := range []struct{ name, kind string }{{slot.Root, "root-x86-64"}, {slot.Verity, "root-x86-64-verity"}} {
		for _, p := range partitions {
			if p.Type != want.kind {
				continue
			}
			size, err := used(d, p)
			if err != nil {
				return nil, closeAll, err
			}
			blobs = append(blobs, slot.Blob{Part: slot.Part{Name: want.name, UUID: p.UUID}, Content: io.NewSectionReader(d, p.Offset, size)})
		}
	}
	for _, name := range []string{slot.UKI, slot.Entry} {
		f, err := file(files[name])
		if err != nil {
			return nil, closeAll, err
		}
		blobs = append(blobs, slot.Blob{Part: slot.Part{Name: name}, Content: f})
	}
	return blobs, closeAll, nil
}

// used is how much of a partition is not zeros at its end, in whole blocks: an
// update writes the rest as zeros, since the hash tree is over all of it.
func used(d io.ReaderAt, p partition) (int64, error) {
	const block = 1 << 20
	b, zeros := make([]byte, block), make([]byte, block)
	for end := p.Size; end > 0; end -= block {
		from := max(end-block, 0)
		part := b[:end-from]
		if _, err := d.ReadAt(part, p.Offset+from); err != nil {
			return 0, fmt.Errorf("read a partition: %w", err)
		}
		if !bytes.Equal(part, zeros[:len(part)]) {
			return end, nil
		}
	}
	return 0, errors.New("a partition is empty")
}

// Package slot is how an appliance carries two versions of itself: bundles that
// bring a new one, the partitions that they lie in, and what the two boot
// loaders are told to start.
//
// A disk has two slots, each a root file system and its hash tree (dm-verity).
// One runs; the other is the way back, or the next version. A version is
// started by a kernel image (UKI) on the EFI system partition, whose command
// line carries the root hash: who trusts the image trusts every block of the
// root. systemd-boot (UEFI) and GRUB (BIOS) read the same image, and both are
// told of every change, so that a disk can move between firmwares.
package slot

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
)

// Product is what a bundle has to be for.
const Product = "mailweir"

// The parts of a version, in the order in which a bundle has them.
const (
	Root   = "root"   // the root file system, as it lies in its partition
	Verity = "verity" // its hash tree
	UKI    = "uki"    // the kernel image
	Entry  = "entry"  // what GRUB is told: where kernel and initrd lie in the image
)

var parts = []string{Root, Verity, UKI, Entry}

// Manifest describes a version. Its signature is checked before anything else
// of a bundle is looked at.
type Manifest struct {
	Product  string `json:"product"`
	Version  string `json:"version"`
	Released int64  `json:"released"` // Unix time of its source; a later one is newer
	Parts    []Part `json:"parts"`
}

// Part is one blob. UUID is that of the partition for a root and its hash tree:
// the halves of the root hash, by which the initrd finds both.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	UUID   string `json:"uuid,omitempty"`
}

// Blob is the content of a part, to be written.
type Blob struct {
	Part
	Content io.ReadSeeker
}

// signed is what a signature is over: a manifest cannot be passed off for
// anything else that the same key ever signs.
func signed(manifest []byte) []byte { return append([]byte("mailweir update bundle 1\n"), manifest...) }

const maxManifest = 64 << 10

// A version is the end of a partition's name, which has 36 characters (UEFI,
// section 5.3.3), and the middle of a file's, where "+" begins systemd-boot's
// counter.
var versionName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.~-]*$`)

const maxVersion = 36 - len(Product+"_")

func checkVersion(v string) error {
	if len(v) > maxVersion || !versionName.MatchString(v) {
		return fmt.Errorf("%.40q is no version: it has 1 to %d letters, digits, dots, ~ and -", v, maxVersion)
	}
	return nil
}

// WriteBundle writes a bundle: a tar of manifest.json, manifest.sig (Ed25519,
// 64 bytes) and the parts in order. It fills in sizes and sums.
func WriteBundle(w io.Writer, key ed25519.PrivateKey, m Manifest, blobs []Blob) error {
	if err := checkVersion(m.Version); err != nil {
		return err
	}
	for _, b := range blobs {
		sum := sha256.New()
		n, err := io.Copy(sum, b.Content)
		if err != nil {
			return fmt.Errorf("read %s: %w", b.Name, err)
		}
		if _, err := b.Content.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read %s again: %w", b.Name, err)
		}
		b.Part.Size, b.Part.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
		m.Parts = append(m.Parts, b.Part)
	}
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	t := tar.NewWriter(w)
	small := func(name string, b []byte) error {
		if err := t.WriteHeader(header(name, int64(len(b)))); err != nil {
			return err
		}
		_, err := t.Write(b)
		return err
	}
	err = errors.Join(small("manifest.json", text), small("manifest.sig", ed25519.Sign(key, signed(text))))
	for i, b := range blobs {
		if err != nil {
			break
		}
		if err = t.WriteHeader(header(b.Name, m.Parts[i].Size)); err == nil {
			_, err = io.Copy(t, b.Content)
		}
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}
}

// Bundle is one that is being read, from its start to its end.
type Bundle struct {
	Manifest
	tar  *tar.Reader
	next int
}

// ErrSignature says that a bundle was not signed by a key that is trusted here.
var ErrSignature = errors.New("this bundle is not signed by a key that this machine trusts: take one from where this version came from")

// OpenBundle reads the manifest and checks that it is signed by one of keys,
// and for this product. Nothing of the rest has been read then.
func OpenBundle(r io.Reader, keys []ed25519.PublicKey) (*Bundle, error) {
	b := &Bundle{tar: tar.NewReader(r)}
	text, err := b.small("manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	sig, err := b.small("manifest.sig", ed25519.SignatureSize)
	if err != nil {
		return nil, err
	}
	if !trusted(keys, text, sig) {
		return nil, ErrSignature
	}
	if err := json.Unmarshal(text, &b.Manifest); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return b, b.complete()
}

func trusted(keys []ed25519.PublicKey, text, sig []byte) bool {
	for _, k := range keys {
		if ed25519.Verify(k, signed(text), sig) {
			return true
		}
	}
	return false
}

func (b *Bundle) small(name string, most int64) ([]byte, error) {
	h, err := b.tar.Next()
	if err != nil || h.Name != name || h.Size > most {
		return nil, fmt.Errorf("this is no update bundle: it does not begin with %s", name)
	}
	return io.ReadAll(b.tar)
}

func (b *Bundle) complete() error {
	if b.Product != Product {
		return fmt.Errorf("this bundle is of %q, not of %s", b.Product, Product)
	}
	if err := checkVersion(b.Version); err != nil {
		return fmt.Errorf("this bundle cannot be taken: %w", err)
	}
	for i, name := range parts {
		if i >= len(b.Parts) || b.Parts[i].Name != name {
			return fmt.Errorf("this bundle has no %s: it was made for another release", name)
		}
	}
	return nil
}

// Next returns the next part. What is read of it is whole only when reading
// ends with io.EOF: a part that is not as the manifest says ends otherwise.
func (b *Bundle) Next() (Part, io.Reader, error) {
	if b.next == len(parts) {
		return Part{}, nil, io.EOF
	}
	p := b.Parts[b.next]
	b.next++
	h, err := b.tar.Next()
	if err != nil || h.Name != p.Name || h.Size != p.Size {
		return p, nil, fmt.Errorf("the bundle ends before %s, or was cut: fetch it again", p.Name)
	}
	return p, &summed{r: b.tar, sum: sha256.New(), part: p}, nil
}

// summed is a reader that ends in an error unless its content has the sum.
type summed struct {
	r    io.Reader
	sum  hash.Hash
	part Part
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	switch {
	case err == io.EOF && hex.EncodeToString(s.sum.Sum(nil)) != s.part.SHA256:
		return n, fmt.Errorf("%s of the bundle is damaged: fetch it again", s.part.Name)
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("the bundle ends within %s (%w): fetch it again", s.part.Name, err)
	}
	return n, err
}

package slot

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func bundle(t *testing.T, key ed25519.PrivateKey, m Manifest) []byte {
	t.Helper()
	var blobs []Blob
	for _, name := range parts {
		blobs = append(blobs, Blob{Part: Part{Name: name, UUID: "u-" + name}, Content: strings.NewReader("content of " + name)})
	}
	var b bytes.Buffer
	if err := WriteBundle(&b, key, m, blobs); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// readAll reads all of a bundle, and what its parts hold.
func readAll(b []byte, keys ...ed25519.PublicKey) (map[string]string, error) {
	in, err := OpenBundle(bytes.NewReader(b), keys)
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	for {
		p, r, err := in.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return got, err
		}
		got[p.Name] = string(content)
	}
}

// TestBundle reads back what was written, under the key of now and the next.
func TestBundle(t *testing.T) {
	next, _ := newKey(t)
	public, key := newKey(t)
	got, err := readAll(bundle(t, key, Manifest{Product: Product, Version: "1.2.3"}), next, public)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range parts {
		if got[name] != "content of "+name {
			t.Errorf("%s is %q", name, got[name])
		}
	}
}

// TestBadBundles holds that nothing is taken from a bundle that is not whole
// and ours.
func TestBadBundles(t *testing.T) {
	public, key := newKey(t)
	_, other := newKey(t)
	good := bundle(t, key, Manifest{Product: Product, Version: "1.2.3"})
	change := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	for name, c := range map[string]struct {
		bundle []byte
		want   string
	}{
		"somebody else's key": {bundle(t, other, Manifest{Product: Product, Version: "1.2.3"}), "not signed by a key"},
		"another version":     {change(`"1.2.3"`, `"1.2.4"`), "not signed by a key"},
		"another product":     {bundle(t, key, Manifest{Product: "toaster", Version: "1"}), "not of mailweir"},
		"a damaged part":      {change("content of verity", "content of parity"), "verity of the bundle is damaged"},
		"cut":                 {good[:bytes.Index(good, []byte("content of uki"))+5], "the bundle ends within uki"},
		"no bundle":           {[]byte("hello"), "no update bundle"},
		"empty":               {nil, "no update bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readAll(c.bundle, public); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := readAll(bundle(t, other, Manifest{Product: Product, Version: "1"}), public); !errors.Is(err, ErrSignature) {
		t.Errorf("errors.Is does not know %v", err)
	}
}

// TestVersions holds that no version is written, taken or told to GRUB that has
// no place in a partition's name, a file's name, or GRUB's block.
func TestVersions(t *testing.T) {
	public, key := newKey(t)
	long := strings.Repeat("1", maxVersion)
	if _, err := readAll(bundle(t, key, Manifest{Product: Product, Version: long}), public); err != nil {
		t.Errorf("a version of %d: %v", maxVersion, err)
	}
	for _, bad := range []string{"", long + "1", strings.Repeat("9", envSize), "1+2", "../1", "1 2", "1\n2", "-1"} {
		if err := WriteBundle(io.Discard, key, Manifest{Product: Product, Version: bad}, nil); err == nil {
			t.Errorf("a bundle of version %q is written", bad)
		}
		b := &Bundle{Manifest: Manifest{Product: Product, Version: bad}}
		for _, name := range parts {
			b.Parts = append(b.Parts, Part{Name: name})
		}
		if err := b.complete(); err == nil {
			t.Errorf("a bundle of version %q is taken", bad)
		}
	}
	e := esp(t.TempDir())
	if err := os.Mkdir(filepath.Join(string(e), "grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := e.choose(choice{Cur: strings.Repeat("9", envSize)}); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("an overlong version told to GRUB: %v", err)
	}
}

// TestReset tells the firmware or GRUB, and only one of them.
func TestReset(t *testing.T) {
	m := Machine{ESP: t.TempDir(), EFIVars: filepath.Join(t.TempDir(), "efivars"), Version: "1.0.0-RC1"}
	if err := os.Mkdir(filepath.Join(m.ESP, "grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := esp(m.ESP).choice(); got != (choice{Cur: "1.0.0-RC1", Reset: "1"}) {
		t.Errorf("GRUB is told %+v", got)
	}
	if err := errors.Join(esp(m.ESP).choose(choice{Cur: "1.0.0-RC1"}), os.Mkdir(m.EFIVars, 0o755)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the variable is there
		if err := m.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(m.EFIVars, resetName))
	if want := "\x07\x00\x00\x00t\x00r\x00u\x00e\x00\x00\x00"; err != nil || string(b) != want {
		t.Errorf("systemd-repart is told %q (%v)", b, err)
	}
	if got := esp(m.ESP).choice(); got.Reset != "" {
		t.Error("GRUB is told as well: a disk that moves to a BIOS would be erased")
	}
}

const sfdisk = `{"partitiontable": {"label":"gpt", "device":"/dev/vda", "unit":"sectors", "sectorsize":512, "partitions": [
 {"node":"/dev/vda1", "start":2048, "size":2048, "type":"21686148-6449-6E6F-744E-656564454649", "uuid":"A", "name":"bios"},
 {"node":"/dev/vda3", "start":1052672, "size":2097152, "type":"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "uuid":"00112233-4455-6677-8899-AABBCCDDEEFF", "name":"mailweir_1.0.0"},
 {"node":"/dev/vda4", "start":3149824, "size":32768, "type":"2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "uuid":"B", "name":"mailweir_1.0.0"},
 {"node":"/dev/vda5", "start":3182592, "size":2097152, "type":"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "uuid":"C", "name":"_empty"},
 {"node":"/dev/vda6", "start":5279744, "size":32768, "type":"2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "uuid":"D", "name":"_empty"}]}}`

func TestRunningSlot(t *testing.T) {
	table, err := parseTable("/dev/vda", []byte(sfdisk))
	if err != nil {
		t.Fatal(err)
	}
	now, other, err := table.running("ro roothash=00112233445566778899aabbccddeeff" + strings.Repeat("0", 32) + " quiet")
	if err != nil || now.version() != "1.0.0" || other.root.Node != "/dev/vda5" || other.verity.Node != "/dev/vda6" || other.version() != "" {
		t.Errorf("%+v, %+v, %v", now, other, err)
	}
	if _, _, err := table.running("ro roothash=" + strings.Repeat("1", 64)); err == nil {
		t.Error("a root that is on no slot is found")
	}
}

// TestCounters follows the names that systemd-boot counts in, and GRUB's block.
func TestCounters(t *testing.T) {
	dir := t.TempDir()
	e := esp(dir)
	for _, d := range []string{"EFI/Linux", "grub"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"mailweir_1.0.0.efi", "mailweir_1.0.1+2-1.efi", "other.efi"} {
		if err := os.WriteFile(filepath.Join(dir, "EFI/Linux", f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(e.count("1.0.1", ""), e.count("1.0.0", "+0")); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "EFI/Linux/mail*"))
	if want := []string{e.imagePath("1.0.0", "+0"), e.imagePath("1.0.1", "")}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	want := choice{Cur: "1.0.1", Prev: "1.0.0", Tries: "3"}
	if err := e.choose(want); err != nil {
		t.Fatal(err)
	}
	if got := e.choice(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if b, _ := os.ReadFile(e.envPath()); len(b) != envSize {
		t.Errorf("GRUB's block has %d bytes", len(b))
	}
	if err := os.WriteFile(e.envPath(), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := e.choice(); got != (choice{}) {
		t.Errorf("a damaged block says %+v", got)
	}
	if err := e.forget("1.0.0"); err != nil {
		t.Fatal(err)
	}
	if all, _ := e.images(); len(all) != 1 {
		t.Errorf("after forgetting one there are %v", all)
	}
}

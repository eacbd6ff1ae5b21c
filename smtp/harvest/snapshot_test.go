package harvest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/disk"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// crowd plays everything that is kept to a Watch: guesses, good mail, strikes,
// traps, foreign domains, refusals, complaints, networks.
type crowd struct {
	rng *rand.Rand
	now time.Time
	n   int
}

func (c *crowd) play(w *Watch, events int) (said []string) {
	for range events {
		c.n++
		c.now = c.now.Add(time.Duration(c.rng.IntN(4000)) * time.Millisecond)
		addr := netip.AddrFrom4([4]byte{10, 0, byte(c.rng.IntN(4)), byte(c.rng.IntN(60))})
		if c.rng.IntN(3) == 0 {
			addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(c.rng.IntN(2)), 0, byte(c.rng.IntN(90))})
		}
		src := smtp.Source{Addr: addr, Tier: smtp.New, Ref: ref.Ref(c.n), Session: ref.Ref(c.n)}
		to := fmt.Sprintf("u%d@example%d.com", c.rng.IntN(3000), c.rng.IntN(3))
		r := smtp.Recipient{To: to, Oracle: smtp.Unknown, Age: smtp.Cached, Trap: c.rng.IntN(400) == 0, Reason: reply.UnknownUser}
		switch c.rng.IntN(12) {
		case 0, 1, 2:
			r.Oracle, r.Reason, r.To = smtp.Valid, "", fmt.Sprintf("v%d@example.com", c.rng.IntN(500))
		case 3:
			r.Oracle, r.Reason = "", reply.Relaying
			r.To = fmt.Sprintf("x@foreign%d.example", c.rng.IntN(9))
		case 4:
			if c.rng.IntN(30) == 0 {
				w.Complaint(c.now, addr, to)
			}
		}
		if k, ok := w.Connected(c.now, src); ok {
			said = append(said, fmt.Sprint(c.n, addr, k))
		}
		if a := w.Recipient(c.now, src, r, c.rng.IntN(9) == 0); a.Convicted || a.Say != "" {
			said = append(said, fmt.Sprint(c.n, addr, a))
		}
		if r.Oracle == smtp.Valid {
			w.Finished(c.now, src, smtp.Accepted, "")
		}
	}
	return said
}

func newCrowd() *crowd { return &crowd{rng: rand.New(rand.NewPCG(3, 9)), now: start} }

// A restart forgets nobody: what comes after it is as if there had been none.
func TestSnapshotChangesNothing(t *testing.T) {
	here, there := newCrowd(), newCrowd()
	whole, first := New(Default, Options{}), New(Default, Options{})
	here.play(whole, 6000)
	there.play(first, 6000)
	var saved bytes.Buffer
	if err := first.Save(&saved); err != nil {
		t.Fatal(err)
	}
	second := New(Default, Options{})
	if err := second.Load(&saved); err != nil {
		t.Fatal(err)
	}
	if a, b := whole.Sources(), second.Sources(); a != b {
		t.Errorf("%d sources, %d after the restart", a, b)
	}
	// What others share within ten minutes and open sessions are left out.
	for _, c := range []*crowd{here, there} {
		c.now = c.now.Add(11 * time.Minute)
	}
	want, got := here.play(whole, 6000), there.play(second, 6000)
	if len(want) < 20 || !reflect.DeepEqual(want, got) {
		t.Errorf("%d answers without and %d with a restart", len(want), len(got))
		for i := range min(len(want), len(got)) {
			if want[i] != got[i] {
				t.Fatalf("the first that differs: %s, with a restart %s", want[i], got[i])
			}
		}
	}
}

func TestDamagedSnapshotIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "harvest.state")
	w := New(Default, Options{})
	newCrowd().play(w, 2000)
	if err := disk.Replace(path, 0o600, w.Save); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, len(snapshotMagic), 1000, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 4
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		n := New(Default, Options{})
		if err := n.Restore(path); err == nil || !strings.Contains(err.Error(), ".damaged") {
			t.Errorf("byte %d is wrong: %v, want an alarm that says where it lies", at, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || n.Sources() != 0 {
			t.Errorf("byte %d is wrong: the file stayed, or %d sources came of it", at, n.Sources())
		}
	}
	if err := New(Default, Options{}).Restore(path); err != nil {
		t.Errorf("no file: %v", err)
	}
}

// FuzzLoad: whatever stands in a snapshot whose checksum holds, reading it ends.
func FuzzLoad(f *testing.F) {
	w := New(Default, Options{})
	newCrowd().play(w, 60)
	var saved bytes.Buffer
	if err := w.Save(&saved); err != nil {
		f.Fatal(err)
	}
	f.Add(saved.Bytes()[:saved.Len()-4])
	f.Add([]byte(snapshotMagic + "\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
		w := New(Default, Options{MaxSources: 100, MaxValid: 100})
		if w.Load(bytes.NewReader(b)) == nil {
			newCrowd().play(w, 50)
		}
	})
}

// An upgrade forgets nobody either: what the release before wrote is read, and
// who was known by mail stays so.
func TestSnapshotOfTheReleaseBefore(t *testing.T) {
	s := newScene(t, smtp.New)
	s.mails(s.src, "postmaster@example.com", smtp.Valid)
	var now bytes.Buffer
	if err := s.w.Save(&now); err != nil {
		t.Fatal(err)
	}
	b := now.Bytes()
	entry := len(snapshotMagic) + 1 // of the one source
	length := binary.LittleEndian.Uint32(b[entry+1:])
	since := entry + 5 + binary.Size(savedSource{})
	before := slices.Concat(b[:since], b[since+binary.Size(savedSince{}):len(b)-4])
	before[len(snapshotMagic)] = snapshotBefore
	binary.LittleEndian.PutUint32(before[entry+1:], length-uint32(binary.Size(savedSince{})))
	before = binary.LittleEndian.AppendUint32(before, crc32.Checksum(before, castagnoli))

	for version, text := range map[byte][]byte{snapshotVersion: b, snapshotBefore: before} {
		w := New(Default, Options{})
		if err := w.Load(bytes.NewReader(text)); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		src := w.e.sources.find(sourceKey(s.src.Addr))
		if src == nil || src.past.mails != 1 || src.past.met != (version == snapshotBefore) {
			t.Errorf("version %d: %+v", version, src)
		}
		if was := s.w.e.sources.find(sourceKey(s.src.Addr)); version == snapshotVersion && (was.phase == 0 || src.phase != was.phase) {
			t.Errorf("days begin at %d, want %d", src.phase, was.phase)
		}
	}
}

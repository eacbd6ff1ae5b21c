package firewall

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func logFile(t *testing.T, dir string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "log-*"))
	if err != nil || len(list) != 1 {
		t.Fatalf("logs: %v, %v, want one", list, err)
	}
	return list[0]
}

// script makes changes of every kind, and returns what stands after each.
func script(t *testing.T, l *Ledger) (states []map[netip.Prefix]string) {
	step := func(f func()) {
		f()
		states = append(states, words(l))
	}
	order := func(p, why string) func() {
		return func() {
			if _, wrong := l.Ban([]Order{{Prefix: prefix(p), For: hour, Why: why}}); wrong != nil {
				t.Fatal(wrong)
			}
		}
	}
	step(func() { l.Convict(addr("203.0.113.7"), Harvest, 7) })
	step(func() { l.Convict(addr("2001:db8::7"), Trap, 8) })
	step(order("2001:db8:1::25/128", "a reason longer than the twenty bytes of one frame"))
	step(func() { l.Lift(prefix("203.0.113.7/32")) })
	step(order("198.51.100.0/24", "short"))
	step(func() { l.Lift(prefix("2001:db8:1::25/128")) })
	step(func() { l.Convict(addr("203.0.113.7"), NotSMTP, 9) })
	return states
}

func words(l *Ledger) map[netip.Prefix]string {
	m := map[netip.Prefix]string{}
	for e := range l.Entries() {
		m[e.Prefix] = fmt.Sprint(e.Since.Unix(), e.Until.Unix(), e.Reason, e.Ref, e.Step, e.Why)
	}
	return m
}

// A log cut at any byte is the ledger as it was after one of the changes, and
// never a later one than the bytes hold. What is decided then is kept.
func TestLogCutAtEveryByte(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := openLedger(t, dir, c)
	states := append([]map[netip.Prefix]string{{}}, script(t, l)...)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(logFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for cut := range len(whole) + 1 {
		got := restoreCut(t, whole[:cut], filepath.Base(logFile(t, dir)), c)
		if !maps.Equal(got, states[at]) {
			if at++; at == len(states) || !maps.Equal(got, states[at]) {
				t.Fatalf("cut at byte %d: %v", cut, got)
			}
		}
	}
	if at != len(states)-1 {
		t.Errorf("the whole log gives state %d of %d", at, len(states)-1)
	}
}

func restoreCut(t *testing.T, log []byte, name string, c *clock) map[netip.Prefix]string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), log, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLedger(t, dir, c)
	got := words(l)
	l.Convict(addr("192.0.2.200"), Flood, 1) // the torn end must not swallow what comes next
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	again := openLedger(t, dir, c)
	if _, banned := again.Banned(addr("192.0.2.200")); !banned || again.Len() != len(got)+1 {
		t.Fatalf("cut at byte %d: a later ban is lost: %v", len(log), words(again))
	}
	return got
}

// A log that ends within an entry is told of and kept as it was found; one that
// is whole, or was only begun, is not.
func TestTornLogIsTold(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := openLedger(t, dir, c)
	script(t, l)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(logFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for cut, alarms := range map[int]int{len(whole): 0, len(whole) - 7: 1, frameSize + 1: 1, frameSize: 0, 0: 0} {
		again := t.TempDir()
		path := filepath.Join(again, filepath.Base(logFile(t, dir)))
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, found, err := OpenLedger(again, Terms{}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if len(found.Alarms) != alarms {
			t.Errorf("cut at %d of %d: alarms %q", cut, len(whole), found.Alarms)
			continue
		}
		if alarms == 0 {
			continue
		}
		aside, _ := filepath.Glob(path + ".damaged*")
		if len(aside) != 1 || !strings.Contains(found.Alarms[0], aside[0]) {
			t.Fatalf("set aside %q, told of in %q", aside, found.Alarms)
		}
		if copied, _ := os.ReadFile(aside[0]); !bytes.Equal(copied, whole[:cut]) {
			t.Error("what was set aside is not what was there")
		}
	}
}

// One flipped bit anywhere costs what comes behind it, and never invents a ban.
func TestLogWithEachByteDamaged(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := openLedger(t, dir, c)
	states := append([]map[netip.Prefix]string{{}}, script(t, l)...)
	l.Sync()
	whole, _ := os.ReadFile(logFile(t, dir))
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		got := restoreCut(t, damaged, filepath.Base(logFile(t, dir)), c)
		known := false
		for _, s := range states {
			known = known || maps.Equal(s, got)
		}
		if !known {
			t.Fatalf("damage at byte %d: %v", i, got)
		}
	}
}

func TestSnapshotKeepsEverything(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := openLedger(t, dir, c)
	states := script(t, l)
	l.store.stale = true
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(logFile(t, dir)); err != nil || info.Size() != frameSize {
		t.Errorf("the log was not begun anew: %v, %v", info.Size(), err)
	}
	l.Close()
	again := openLedger(t, dir, c)
	if got := words(again); !maps.Equal(got, states[len(states)-1]) {
		t.Errorf("restored %v", got)
	}
}

// Whatever step of a rotation a crash picks: old snapshot with old and new
// log, new snapshot with both logs, new snapshot with the new log.
func TestCrashDuringRotation(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := openLedger(t, dir, c)
	l.Convict(addr("203.0.113.1"), Harvest, 1)
	l.store.stale = true
	l.Sync()
	l.Convict(addr("203.0.113.2"), Harvest, 1)
	l.Sync()
	before := readAll(t, dir)
	l.store.stale = true
	l.Lift(prefix("203.0.113.1/32"))
	l.Sync()
	l.Convict(addr("203.0.113.3"), Harvest, 1)
	l.Sync()
	after := readAll(t, dir)
	var oldLog string
	for name := range before {
		if strings.HasPrefix(name, "log") {
			oldLog = name
		}
	}
	want := words(l)
	for name, files := range map[string]map[string][]byte{
		"logs not removed": merge(after, map[string][]byte{oldLog: before[oldLog]}),
		"half a snapshot":  merge(after, map[string][]byte{"snapshot.new": after["snapshot"][:40]}),
		"all done":         after,
	} {
		if got := restoreFiles(t, files, c); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	// Before the rename: the old snapshot, both logs. The old log had the lift
	// flushed to it, but that copy of it was taken before.
	got := restoreFiles(t, merge(after, before), c)
	if got[prefix("203.0.113.2/32")] == "" || got[prefix("203.0.113.3/32")] == "" {
		t.Errorf("not renamed: %v", got)
	}
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files
}

func merge(a, b map[string][]byte) map[string][]byte {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

func restoreFiles(t *testing.T, files map[string][]byte, c *clock) map[netip.Prefix]string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := openLedger(t, dir, c)
	defer l.Close()
	return words(l)
}

// A damaged snapshot is moved aside with an alarm; the log still counts.
func TestDamagedSnapshot(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"flipped bit":    func(b []byte) []byte { b[frameSize+5] ^= 1; return b },
		"cut":            func(b []byte) []byte { return b[:len(b)-frameSize] },
		"cut in a frame": func(b []byte) []byte { return b[:len(b)-7] },
		"empty":          func([]byte) []byte { return nil },
		"grown":          func(b []byte) []byte { return append(b, b[frameSize:2*frameSize]...) },
		"zeros":          func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := newClock(), t.TempDir()
			l := openLedger(t, dir, c)
			l.Convict(addr("203.0.113.1"), Harvest, 1)
			l.Convict(addr("203.0.113.2"), Harvest, 1)
			l.store.stale = true
			l.Sync()
			l.Convict(addr("203.0.113.3"), Harvest, 1)
			l.Sync()
			l.Close()
			path := filepath.Join(dir, snapshotName)
			b, _ := os.ReadFile(path)
			os.WriteFile(path, damage(b), 0o600)

			l, rec, err := OpenLedger(dir, Terms{}, c.now)
			if err != nil || len(rec.Alarms) != 1 || !strings.Contains(rec.Alarms[0], "damaged-") {
				t.Fatalf("%+v, %v, want one alarm", rec, err)
			}
			if got := standing(l); len(got) != 1 || rec.Standing != 1 {
				t.Errorf("standing: %v, want what the log says", got)
			}
			if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
				t.Errorf("moved aside: %v", aside)
			}
			l.Sync()
			l.Close()
			l, rec, err = OpenLedger(dir, Terms{}, c.now)
			if err != nil || len(rec.Alarms) != 0 || rec.Standing != 1 {
				t.Errorf("second start: %+v, %v", rec, err)
			}
			l.Close()
		})
	}
}

// A clock that was wrong, or is, makes no ban longer than it may be.
func TestClampAtLoad(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	today := c.t
	c.t = today.AddDate(13, 0, 0)
	l := openLedger(t, dir, c)
	l.Convict(addr("203.0.113.1"), Harvest, 1)
	l.Ban([]Order{
		{Prefix: prefix("203.0.113.2/32"), For: 90 * day},
		{Prefix: prefix("203.0.113.3/32"), Forever: true, Why: "for good"},
	})
	l.Sync()
	l.Close()
	c.t = today
	l = openLedger(t, dir, c)
	got := standing(l)
	for p, want := range map[string]time.Time{
		"203.0.113.1/32": today.Add(2 * day), "203.0.113.2/32": today.Add(90 * day), "203.0.113.3/32": Forever,
	} {
		if !got[prefix(p)].Equal(want) {
			t.Errorf("%s until %v, want %v", p, got[prefix(p)], want)
		}
	}
}

func TestTwoLedgersOfOneFolder(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	openLedger(t, dir, c)
	if _, _, err := OpenLedger(dir, Terms{}, c.now); err == nil || !strings.Contains(err.Error(), "another guard") {
		t.Errorf("the second one: %v", err)
	}
}

// The reader gets whatever bytes a broken disk holds: it must not fail, and a
// ledger started from them must be able to write and read again.
func FuzzRestore(f *testing.F) {
	var log []byte
	log = appendHeader(log, 1)
	log = appendNote(log, 3, "a note of more than twenty bytes")
	log = appendBan(log, record{prefix: prefix("203.0.113.0/24"), since: 1, until: 1 << 31, reason: Operator, mark: 3})
	log = appendBan(log, record{prefix: prefix("2001:db8::1/128"), since: 1, until: 1 << 31, reason: Harvest, mark: 9})
	log = appendLift(log, prefix("203.0.113.0/24"))
	f.Add(log, appendEnd(bytes.Clone(log), uint64(len(log)/frameSize)))
	f.Add(log[:70], []byte("weir"))
	f.Fuzz(func(t *testing.T, log, snapshot []byte) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, snapshotName), reseal(snapshot), 0o600)
		os.WriteFile(filepath.Join(dir, fmt.Sprintf(logPattern, 1)), reseal(log), 0o600)
		c := newClock()
		l, _, err := OpenLedger(dir, Terms{}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		for b := range l.Active() {
			if b.Prefix != Canonical(b.Prefix) || !b.Reason.Valid() || b.Since.After(c.t) ||
				b.Reason != Operator && b.Until.Sub(c.t) > MaxAutomatic {
				t.Fatalf("restored %+v", b)
			}
		}
		l.Convict(addr("192.0.2.1"), Harvest, 1)
		want := words(l)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l, rec, err := OpenLedger(dir, Terms{}, c.now)
		if err != nil || len(rec.Alarms) > 0 || !maps.Equal(words(l), want) {
			t.Fatalf("second start: %+v, %v: %v, want %v", rec, err, words(l), want)
		}
		l.Close()
	})
}

// The same without a disk: far more inputs.
func FuzzFrames(f *testing.F) {
	f.Add(appendLift(appendNote(appendHeader(nil, 1), 3, "a note of more than twenty bytes"), prefix("2001:db8::1/128")))
	f.Add(appendEnd(appendBan(nil, record{prefix: prefix("203.0.113.0/24"), until: 9, reason: Operator, mark: 3}), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = reseal(b)
		good, err := readFrames(bytes.NewReader(b), func(_ uint64, c change) error {
			if p := c.ban.prefix; p.IsValid() && p != Canonical(p) {
				t.Fatalf("read %+v", c)
			}
			return nil
		})
		if good%frameSize != 0 || good > int64(len(b)) {
			t.Fatalf("%d of %d bytes are good, %v", good, len(b), err)
		}
	})
}

// reseal gives every frame a right checksum, so that the fuzzer gets behind it.
func reseal(b []byte) []byte {
	var out []byte
	for len(b) >= frameSize {
		f := [frameSize]byte(b[:frameSize])
		out = seal(out, &f)
		b = b[frameSize:]
	}
	return append(out, b...)
}

// A disk that was full for so long that entries had to be thrown away: nothing
// but a snapshot tells all then, and it is tried until there is room for it.
func TestDiskThatWasFullForLong(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c := newClock()
	l := openLedger(t, dir, c)
	for i := range byte(200) {
		l.Convict(netip.AddrFrom4([4]byte{203, 0, 113, i}), Harvest, 1)
	}
	l.store.pending, l.store.lost = nil, true // as append does beyond maxPending
	ballast := filepath.Join(dir, "ballast")
	os.WriteFile(ballast, make([]byte, 1<<20), 0o600) // as much as fits …
	info, err := os.Stat(ballast)
	if err != nil || os.Truncate(ballast, info.Size()-8<<10) != nil { // … but for a log: a snapshot is larger
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Sync(); err == nil || l.Problem() == nil {
			t.Fatalf("synced to a full disk: %v, %v", err, l.Problem())
		}
	}
	l.Lift(prefix("203.0.113.5/32"))
	os.Remove(ballast)
	if err := l.Sync(); err != nil || l.Problem() != nil {
		t.Fatalf("with room again: %v, %v", err, l.Problem())
	}
	l.Close()
	if n := openLedger(t, dir, c).Len(); n != 199 {
		t.Errorf("%d bans are restored, want 199", n)
	}
}

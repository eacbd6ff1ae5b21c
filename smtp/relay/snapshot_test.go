package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"mailweir/smtp/address"
)

func TestSnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	now := time.Now().Truncate(time.Second)
	c := newCache()
	c.accept(box("u1"), now)
	c.accept(address.Mailbox{Local: "a b\\", Domain: "example.com"}, now.Add(-8*24*time.Hour))
	c.accept(box("old"), now.Add(-32*24*time.Hour))
	c.refuse(box("u1"), finding{at: now})
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	again := newCache()
	if err := again.load(path, now, quiet); err != nil {
		t.Fatal(err)
	}
	if len(again.yes) != 2 || again.yes["u1@example.com"] != c.yes["u1@example.com"] || again.yes["a b\\@example.com"].yes == 0 {
		t.Errorf("read %v", again.yes)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("written again though nothing changed")
	}
}

// TestDamagedSnapshot: any byte that is wrong or missing is noticed, the file is
// set aside and the start goes on.
func TestDamagedSnapshot(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	writeSnapshot(w, map[string]entry{"u1@example.com": {1, 1 << 40, 0}})
	w.Flush()
	whole := b.Bytes()
	if _, err := readSnapshot(whole, time.Now()); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := readSnapshot(whole[:n], time.Now()); err == nil {
			t.Errorf("cut at %d and taken", n)
		}
		bad := bytes.Clone(whole)
		bad[n] ^= 4
		if _, err := readSnapshot(bad, time.Now()); err == nil {
			t.Errorf("changed at %d and taken", n)
		}
	}
	path := filepath.Join(t.TempDir(), "recipients")
	if err := os.WriteFile(path, whole[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCache()
	if err := c.load(path, time.Now(), quiet); err != nil || len(c.yes) != 0 {
		t.Errorf("%v, %v", c.yes, err)
	}
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
		t.Errorf("not set aside: %v", aside)
	}
}

// TestCacheIsBounded: the one that was not confirmed for longest goes, and an
// entry costs what its comment says.
func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	c.most = 1000
	now := time.Now()
	for i := range 5000 {
		c.accept(box(fmt.Sprint("u", i)), now.Add(time.Duration(i)*time.Second))
		c.refuse(box(fmt.Sprint("g", i)), finding{at: now})
	}
	if len(c.yes) != 1000 {
		t.Errorf("%d recipients", len(c.yes))
	}
	if !c.look(box("u4999"), now).yes {
		t.Error("the newest is gone")
	}
	for i := range 3000 {
		c.accept(box(fmt.Sprint("jane+", i)), now.Add(24*time.Hour))
	}
	left := 0
	for i := range 5000 {
		if c.look(box(fmt.Sprint("u", i)), now).yes {
			left++
		}
	}
	if left < 500 {
		t.Errorf("the tags of one mailbox left %d others of 1000", left)
	}
	for i := range 50_000 {
		c.remember(box(fmt.Sprint("x", i)), finding{at: now})
	}
	if len(c.noes)+len(c.older) > 20_000 {
		t.Errorf("%d noes", len(c.noes)+len(c.older))
	}

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	big := newCache()
	for i := range 100_000 {
		big.accept(address.Mailbox{Local: fmt.Sprintf("first.last%06d", i), Domain: "mail.example.com"}, now)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / 100_000
	t.Logf("%d bytes a recipient", each)
	if each > 160 {
		t.Errorf("%d bytes a recipient, want at most 160", each)
	}
	runtime.KeepAlive(big)
}

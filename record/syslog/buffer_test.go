package syslog

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func put(b *buffer, texts ...string) {
	for _, t := range texts {
		b.put(0, func(uint64) []byte { return []byte(t) })
	}
	b.flush()
}

func takeAll(t *testing.T, b *buffer) (texts []string, next uint64) {
	t.Helper()
	for {
		list, err := b.take(7)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return texts, next
		}
		for _, m := range list {
			if m.n < next {
				t.Fatalf("message %d comes behind %d", m.n, next-1)
			}
			texts, next = append(texts, string(m.text)), m.n+1
		}
	}
}

// R-MC-07: whatever a process was doing when it was killed, what was put is
// there, in order, and what the target has is not sent again.
func TestBufferKeepsOrderThroughRestarts(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			const most = 1 << 14 // files of 2 KiB
			b := newBuffer(dir, most)
			var want []string // what the target does not have
			read := 0         // of those, taken
			for i := range 600 {
				switch k := r.IntN(10); {
				case k < 5:
					text := fmt.Sprintf("message %d %s", i, strings.Repeat("x", r.IntN(60)))
					if want = append(want, text); len(want) > 60 { // far from full
						want, read = want[:60], min(read, 60)
						continue
					}
					put(b, text)
				case k < 8:
					list, err := b.take(1 + r.IntN(9))
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range list {
						if read >= len(want) || want[read] != string(m.text) {
							t.Fatalf("step %d: got %q, want %q", i, m.text, want[read:min(len(want), read+1)])
						}
						read++
					}
					if len(list) > 0 && r.IntN(3) > 0 {
						b.done(list[len(list)-1].n + 1)
						want, read = want[read:], 0
					}
				case k < 9:
					b.rewind()
					read = 0
				default: // killed: nothing is closed
					b, read = newBuffer(dir, most), 0
				}
			}
			b.rewind()
			if got, _ := takeAll(t, b); !slices.Equal(got, want) {
				t.Errorf("in the end\ngot  %q\nwant %q", got, want)
			}
			if s := b.stats(); s.Lost != 0 || s.Problem != "" {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A power cut tears the last line, and another one in the middle: the whole ones
// are there, and the numbers of those torn are not given again.
func TestBufferTorn(t *testing.T) {
	dir := t.TempDir()
	b := newBuffer(dir, 1<<20)
	put(b, "one", "two", "three", "four")
	path := b.path(1)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := strings.Replace(string(text[:len(text)-3]), "two", "t\x00o", 1)
	if err := os.WriteFile(path, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	b = newBuffer(dir, 1<<20)
	put(b, "five")
	list, err := b.take(9)
	for range 3 {
		more, _ := b.take(9)
		list = append(list, more...)
	}
	if err != nil || len(list) != 3 || string(list[0].text) != "one" || string(list[1].text) != "three" || string(list[2].text) != "five" || list[2].n != 5 {
		t.Errorf("got %v, %v: want one, three, and five with the number 5", list, err)
	}
	// The file of how far the target is, torn: again from the oldest.
	b.done(4)
	if err := os.Truncate(filepath.Join(dir, positionName), 11); err != nil {
		t.Fatal(err)
	}
	b = newBuffer(dir, 1<<20)
	if got, _ := takeAll(t, b); !slices.Equal(got, []string{"one", "three", "five"}) {
		t.Errorf("without its position: %q", got)
	}
}

// The oldest go when there is too much, are counted, and no more is on the disk
// than was allowed.
func TestBufferFull(t *testing.T) {
	dir := t.TempDir()
	b := newBuffer(dir, 16<<10)
	const n = 2000
	for i := range n {
		put(b, fmt.Sprintf("message %d %s", i, strings.Repeat("x", 80)))
	}
	got, _ := takeAll(t, b)
	s := b.stats()
	if len(got)+int(s.Lost) != n || !strings.HasPrefix(got[len(got)-1], "message 1999 ") {
		t.Errorf("%d are there, %d lost, of %d; the last is %q", len(got), s.Lost, n, got[len(got)-1])
	}
	var onDisk int64
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		info, _ := f.Info()
		onDisk += info.Size()
	}
	if s.Bytes > 16<<10 || onDisk > 16<<10+64 {
		t.Errorf("%d bytes by its own account, %d on disk, of %d", s.Bytes, onDisk, 16<<10)
	}
}

// A disk without room: messages go by way of memory, the newest of them, and the
// disk takes them when it has room again.
func TestBufferDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	b := newBuffer(filepath.Join(dir, "buffer"), 1<<20)
	put(b, "on disk")
	os.WriteFile(ballast, make([]byte, 64<<10), 0o600) // as much as there is room for
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("message %d %s", i, strings.Repeat("x", 100)))
		put(b, want[i])
	}
	if s := b.stats(); !strings.Contains(s.Problem, "no space") || s.Waiting != 201 {
		t.Fatalf("stats %+v of a full disk", s)
	}
	list, err := b.take(1)
	if err != nil || len(list) != 1 || string(list[0].text) != "on disk" {
		t.Fatalf("got %v, %v", list, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	put(b, "last")
	want = append(want, "last")
	if got, _ := takeAll(t, b); !slices.Equal(got, want) {
		t.Errorf("got %d messages %q…, want %d", len(got), got[:min(3, len(got))], len(want))
	}
	if s := b.stats(); s.Problem != "" || s.Lost != 0 {
		t.Errorf("stats %+v of a disk that has room again", s)
	}
	b = newBuffer(filepath.Join(dir, "buffer"), 1<<20)
	if got, _ := takeAll(t, b); len(got) != 202 {
		t.Errorf("%d messages are on the disk in the end, want 202", len(got))
	}
}

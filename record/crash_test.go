package record

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"

	"golang.org/x/sys/unix"
)

const crashDir = "WEIR_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		speakRefs(dir)
	}
	os.Exit(m.Run())
}

// speakRefs is the process that is killed: it says refs on standard output, as
// a session does in replies, and ends every second transaction.
func speakRefs(dir string) {
	s := Open(Options{Dir: dir, MaxSize: minSize})
	go s.Run(context.Background())
	for i := 0; ; i++ {
		x := tx(time.Now(), "203.0.113.7", "a@b.example", fmt.Sprintf("u%d@example.com", i))
		s.Announce(context.Background(), x)
		if s.count.unsafe.Load() > 0 {
			fmt.Println("not safe in time")
			s.count.unsafe.Store(0)
			time.Sleep(announceWait) // a slow disk catches up
			continue
		}
		fmt.Println(x.Facts.Ref)
		if i%2 == 0 {
			x.Outcome = smtp.Rejected
			s.Record(x)
		}
		if i%100 == 0 {
			s.Convicted(x.Facts.Ref, x.Facts.Peer, x.Facts.Time, harvest, true)
		}
	}
}

// The contract's sentence on refs: each that was said can be explained,
// wherever in its work the process was killed.
func TestEveryRefSpokenSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	var spoken []string
	for round := range 6 {
		spoken = append(spoken, spokenUntilKilled(t, dir, 50+round*137)...)
	}
	f := begin(t, dir, nil)
	for _, r := range spoken {
		if story, err := f.Why(context.Background(), r, 1); err != nil || len(story.Records) != 1 {
			t.Fatalf("ref %s was said and has no record (%v), one of %d", r, err, len(spoken))
		}
	}
	if d := f.count.dropped.Load(); d > 0 {
		t.Errorf("%d dropped: %v", d, f.alarms.all)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, journalName+"*")); len(names) > 1 {
		t.Errorf("journals are left behind: %v", names)
	}
}

// spokenUntilKilled runs the speaker and kills it with SIGKILL at the n-th ref;
// everything that it said until its end counts.
func spokenUntilKilled(t *testing.T, dir string, n int) (spoken []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		if line = strings.TrimSpace(line); line != "not safe in time" {
			spoken = append(spoken, line)
		}
		if len(spoken) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait()
	return spoken
}

// A journal that was cut anywhere, or has a damaged line, gives all the rest.
func TestTornJournal(t *testing.T) {
	var whole []byte
	var ends []int
	var want []string
	for i := range 3 {
		x := tx(start.Add(time.Duration(i)*time.Second), "203.0.113.7", "a@b.example", "u@example.com")
		l := NewLine(&x, "mx1")
		body, err := l.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		whole = appendEntry(whole, recorded, body)
		ends = append(ends, len(whole))
		want = append([]string{l.Ref}, want...) // newest first
	}
	restored := func(journal []byte) []string {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal.7"), journal, 0o600); err != nil {
			t.Fatal(err)
		}
		f := begin(t, dir, nil)
		defer f.stop()
		return f.search(t, Query{})
	}
	for _, cut := range []int{0, 1, 8, 9, 10, ends[0] - 1, ends[0], ends[0] + 1, ends[1] - 1, ends[1], ends[2] - 1, ends[2]} {
		n := 0
		for n < len(ends) && ends[n]-1 <= cut { // the line feed itself is no loss
			n++
		}
		if got := restored(whole[:cut]); !same(got, want[len(want)-n:]) {
			t.Errorf("cut at %d of %v: found %v, want %v", cut, ends, got, want[len(want)-n:])
		}
	}
	flipped := bytes.Clone(whole)
	flipped[ends[0]+bytes.Index(flipped[ends[0]:], []byte("mail.sender"))] ^= 1 // still JSON
	if got := restored(flipped); !same(got, []string{want[0], want[2]}) {
		t.Errorf("one bit flipped in the second: found %v, want first and third of %v", got, want)
	}
	if got := restored(append(make([]byte, 300), whole...)); len(got) < 2 {
		t.Errorf("zeros in front: found %v", got)
	}
}

// On a full disk records are kept in memory, then dropped and counted; nobody
// waits; when there is room again, the store goes on.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("weir-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	f := begin(t, dir, nil)
	first := tx(start, "203.0.113.7", "a@b.example", "u@example.com")
	f.Announce(context.Background(), first)
	f.search(t, Query{})
	filler := filepath.Join(dir, "filler")
	fill(t, filler)

	began := time.Now()
	for i := range 2000 {
		f.Record(tx(start.Add(time.Duration(i)*time.Second), "203.0.113.8", "a@b.example", "u@example.com"))
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("2000 records took %v of their sessions", d)
	}
	waitFor(t, "the alarm", func() bool { _, ok := f.alarms.raised(AlarmStore); return ok })
	if got := f.search(t, Query{Ref: first.Facts.Ref}); !same(got, refs(first)) {
		t.Errorf("search on a full disk found %v", got)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the alarm", func() bool { _, ok := f.alarms.raised(AlarmStore); return !ok })
	last := tx(start.Add(time.Hour), "203.0.113.9", "a@b.example", "u@example.com")
	f.Record(last)
	if got := f.search(t, Query{Limit: 1}); !same(got, refs(last)) {
		t.Errorf("found %v, want %v", got, refs(last))
	}
	if n := len(f.search(t, Query{})); n+int(f.count.dropped.Load()) != 2002 {
		t.Errorf("%d found and %d counted as lost, of 2002", n, f.count.dropped.Load())
	}
}

// fill takes all room that the file system has.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		err = nil
	}
}

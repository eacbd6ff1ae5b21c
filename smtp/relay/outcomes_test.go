package relay

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

var quiet = slog.New(slog.DiscardHandler)

func envelope(digest byte, locals ...string) smtp.Envelope {
	env := smtp.Envelope{Digest: [32]byte{digest}}
	for _, l := range locals {
		env.To = append(env.To, box(l))
	}
	return env
}

func hold(t *testing.T, o *outcomes, env smtp.Envelope) *claim {
	t.Helper()
	c, err := o.claim(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestJournal: what is kept outlives a kill at any byte of the file, but for the
// line that was being written.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outcomes.log")
	j, kept, err := openJournal(path, quiet)
	if err != nil || len(kept) != 0 {
		t.Fatal(kept, err)
	}
	o := newOutcomes(j)
	c := hold(t, o, envelope(1, "u1", "u2"))
	c.took(c.rest[:1])
	c.refuse(refusal{reply.Reply{Code: 554, Enhanced: reply.Enhanced{5, 7, 1}, Text: "is \"spam\"\n"}, reply.MessageRefused})
	c.release()
	heard := hold(t, o, envelope(2, "u1"))
	heard.took(heard.rest)
	heard.forget()
	j.close()

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		got, bad := readJournal(whole[:n], time.Now())
		if bad != 0 || len(got) > 3 {
			t.Fatalf("cut at %d: %d outcomes, %d damaged", n, len(got), bad)
		}
	}
	j, kept, err = openJournal(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	o = newOutcomes(j)
	o.kept = kept
	again := hold(t, o, envelope(1, "u1", "u2"))
	if !slices.Equal(again.rest, []address.Mailbox{box("u2")}) || again.refused == nil || again.refused.reply.Text != "is \"spam\"\n" {
		t.Errorf("after a restart: %+v", again)
	}
	if len(kept) != 2 {
		t.Errorf("%d outcomes, want the one that was heard forgotten", len(kept))
	}
}

// TestDamagedJournal is set aside, and what can be read is used.
func TestDamagedJournal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outcomes.log")
	k := strings.Repeat("ab", 16)
	until := time.Now().Add(time.Hour).Unix()
	text := fmt.Sprintf("+ %s %d\n\x00\x00garbage\n- \n! %s %d {}\n+ %s\n", k, until, k, until, k)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	j, kept, err := openJournal(path, quiet)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%d outcomes, %v", len(kept), err)
	}
	j.close()
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
		t.Errorf("not set aside: %v", aside)
	}
}

// TestJournalStaysSmall: history is thrown away as it grows.
func TestJournalStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outcomes.log")
	j, _, err := openJournal(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	o := newOutcomes(j)
	for i := range historyLines {
		c := hold(t, o, envelope(byte(i), fmt.Sprint("u", i)))
		c.took(c.rest)
		c.release()
		c.forget()
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > historyLines*60 {
		t.Errorf("%d bytes for nothing, %v", info.Size(), err)
	}
}

// TestSameMessageOneAtATime: two deliveries of one message to one recipient are
// never under way together; others are.
func TestSameMessageOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutcomes(nil)
		first := hold(t, o, envelope(1, "u1", "u2"))
		hold(t, o, envelope(1, "u3")).release()
		hold(t, o, envelope(2, "u1")).release()
		waited := make(chan *claim)
		go func() { waited <- hold(t, o, envelope(1, "u2", "u4")) }()
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("did not wait")
		default:
		}
		first.took(first.rest)
		first.release()
		c := <-waited
		if !slices.Equal(c.rest, []address.Mailbox{box("u4")}) {
			t.Errorf("left to do: %v", c.rest)
		}
	})
}

// TestNoDigest: a message that cannot be told from another is never taken for
// one.
func TestNoDigest(t *testing.T) {
	o := newOutcomes(nil)
	c := hold(t, o, envelope(0, "u1"))
	c.took(c.rest)
	c.release()
	if again := hold(t, o, envelope(0, "u1")); len(again.rest) != 1 {
		t.Error("taken for an earlier one")
	}
}

// FuzzJournal: no file can make the start fail.
func FuzzJournal(f *testing.F) {
	f.Add([]byte("+ 00112233445566778899aabbccddeeff 9999999999\n- 00112233445566778899aabbccddeeff\n"))
	f.Add([]byte("! 00112233445566778899aabbccddeeff 9999999999 {\"reply\":{\"code\":550}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept, _ := readJournal(data, time.Unix(0, 0))
		for k, v := range kept {
			op, k2, v2, ok := readJournalLine(strings.TrimSuffix(journalLine(k, v), "\n"))
			if !ok || k2 != k || v2.until != v.until || (op == "!") != (v.refused != nil) {
				t.Fatalf("%x %+v is not read as it was written", k, v)
			}
		}
	})
}

// A last line that ends too early is what a crash leaves only if it begins as
// ours do; what somebody else wrote is damage, with or without the end of a line.
func TestJournalTellsDamageFromATornLine(t *testing.T) {
	for _, tc := range []struct {
		text string
		bad  int
	}{{"", 0}, {"+", 0}, {"+ 00ff", 0}, {"!", 0}, {"- ", 0}, {"\x17garbage", 1}, {"+garbage", 1}, {"x", 1}} {
		if _, bad := readJournal([]byte(tc.text), time.Now()); bad != tc.bad {
			t.Errorf("%q: %d lines damaged, want %d", tc.text, bad, tc.bad)
		}
	}
}

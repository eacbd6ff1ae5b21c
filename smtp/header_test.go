package smtp

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func filterHeader(t testing.TB, message []byte, piece int) (out []byte, h *header) {
	t.Helper()
	var b bytes.Buffer
	h = &header{out: &b, authserv: "mx.example.net"}
	for rest := message; len(rest) > 0; {
		n := min(piece, len(rest))
		if k, err := h.Write(rest[:n]); err != nil || k != n {
			t.Fatalf("write: %d of %d, %v", k, n, err)
		}
		rest = rest[n:]
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), h
}

func TestHeaderAcrossPieces(t *testing.T) {
	message := "Received: a\r\n\tb\r\nreceived : c\r\nAuthentication-Results: mx.example.net;\r\n spf=pass\r\nMessage-Id:\r\n <x@y>\r\n" +
		"X: " + strings.Repeat("long\r\n ", 20_000) + "\r\nReceived: d\r\n\r\nReceived: body\r\n"
	want := strings.Replace(message, "Authentication-Results: mx.example.net;\r\n spf=pass\r\n", "", 1)
	for _, piece := range []int{1, 2, 3, 7, 4096, 1 << 20} {
		out, h := filterHeader(t, []byte(message), piece)
		if string(out) != want {
			t.Errorf("pieces of %d: %d octets, want %d", piece, len(out), len(want))
		}
		if h.hops != 3 || h.messageID != "<x@y>" || h.dropped != 1 {
			t.Errorf("pieces of %d: %d hops, id %q, %d dropped", piece, h.hops, h.messageID, h.dropped)
		}
	}
}

// A forged field cannot hide behind its own length: its fate is decided by its
// beginning, and all of it goes.
func TestLongForgedFieldIsDropped(t *testing.T) {
	message := "Authentication-Results: mx.example.net; " + strings.Repeat("x=y;\r\n ", 30_000) + "\r\nSubject: x\r\n\r\n"
	out, _ := filterHeader(t, []byte(message), 4096)
	if string(out) != "Subject: x\r\n\r\n" {
		t.Errorf("%d octets are left: %.60q", len(out), out)
	}
}

// Nor behind a comment that is longer than what is looked at.
func TestForgedFieldBehindALongCommentIsDropped(t *testing.T) {
	message := "Authentication-Results: (" + strings.Repeat("x\r\n ", 30_000) + ") mx.example.net; spf=pass\r\nSubject: x\r\n\r\n"
	for _, piece := range []int{1, 4096, 1 << 20} {
		if out, _ := filterHeader(t, []byte(message), piece); string(out) != "Subject: x\r\n\r\n" {
			t.Errorf("pieces of %d: %d octets are left: %.60q", piece, len(out), out)
		}
	}
}

// Nor where the piece that is looked at ends in the middle of the id, or of what
// stands before it.
func TestForgedFieldAcrossTheCutIsDropped(t *testing.T) {
	for n := longField - 60; n < longField+60; n++ {
		for _, f := range []string{
			"Authentication-Results: (" + strings.Repeat("x", n) + ") mx.example.net; spf=pass",
			"Authentication-Results: " + strings.Repeat(" ", n) + `"mx.example.net"; spf=pass`,
			"Authentication-Results" + strings.Repeat(" ", n) + ": mx.example.net; spf=pass",
		} {
			if out, _ := filterHeader(t, []byte(f+"\r\nSubject: x\r\n\r\n"), 1000); string(out) != "Subject: x\r\n\r\n" {
				t.Fatalf("with %d before it, %d octets are left: %.60q", n, len(out), out)
			}
		}
	}
}

// A field that does not end, in one line or in many, costs little however much
// of it has come; a thousand connections can send one.
func TestHeaderWithoutEndCostsLittle(t *testing.T) {
	for _, line := range []string{strings.Repeat("x", 60_000) + "\r\n ", "x\r\n ", "x"} {
		h := &header{out: io.Discard, authserv: "mx.example.net"}
		io.WriteString(h, "Subject: ")
		for sent := 0; sent < 200_000; sent += len(line) {
			if _, err := io.WriteString(h, line); err != nil {
				t.Fatal(err)
			}
			if held := cap(h.line) + cap(h.field); held > 5*longField {
				t.Fatalf("after %d octets of %.5q… %d are held", sent, line, held)
			}
		}
	}
}

// What From says is noted as it is, and a score that claims to be ours goes.
func TestFromAndScore(t *testing.T) {
	message := "From: a\r\n <a@b.example>\r\nx-mailweir-score: -10\r\n (trust me)\r\nDKIM-Signature: v=1;\r\n d=b.example\r\nfrom: c\r\nFROM: d\r\n\r\n"
	out, h := filterHeader(t, []byte(message), 5)
	want := strings.Replace(message, "x-mailweir-score: -10\r\n (trust me)\r\n", "", 1)
	if string(out) != want || fmt.Sprintf("%q", h.from) != `[" a\r\n <a@b.example>\r\n" " c\r\n"]` || h.signatures != 1 || h.unwieldy() {
		t.Errorf("%q, from %q, %d signatures, unwieldy %v", out, h.from, h.signatures, h.unwieldy())
	}
	for name, m := range map[string]string{
		"fields": strings.Repeat("a: b\r\n", 1001), "size": strings.Repeat("a: "+strings.Repeat("x", 900)+"\r\n", 300),
		"one": "DKIM-Signature: " + strings.Repeat("a\r\n ", 2000) + "\r\n", "lines": "To: a" + strings.Repeat("\r\n b", 50_000) + "\r\n",
	} {
		if _, h := filterHeader(t, []byte(m+"\r\n"), 4096); !h.unwieldy() {
			t.Errorf("%s: %d fields, %d octets are looked at", name, h.fields, h.size)
		}
	}
}

// A field with many people in it is looked at, as is one long line.
func TestManyPeopleAreNotUnwieldy(t *testing.T) {
	for name, m := range map[string]string{
		"lines": "To: a@b.example" + strings.Repeat(",\r\n\tSomebody With A Name <somebody.with.a.name@b.example>", 1800) + "\r\n",
		"line":  "To: " + strings.Repeat("somebody@b.example, ", 10_000) + "\r\n",
	} {
		if _, h := filterHeader(t, []byte(m+"\r\n"), 4096); h.unwieldy() {
			t.Errorf("%s: %d octets, %d to join", name, h.size, h.joined)
		}
	}
}

func TestAuthservID(t *testing.T) {
	for v, want := range map[string]string{
		" mx.example.net; spf=pass":              "mx.example.net",
		" mx.example.net 1; none":                "mx.example.net",
		"\r\n\tmx.example.net\r\n\t; none":       "mx.example.net",
		"(comment) mx.example.net;":              "mx.example.net",
		" ((a)(b\\))) (c) mx.example.net(x); no": "mx.example.net",
		` "mx.example.net";`:                     "mx.example.net",
		` "mx\.example.net";`:                    "mx.example.net",
		"":                                       "",
		"(never closed mx.example.net":           "",
		"i=1; mx.example.net; spf=pass":          "i=1",
	} {
		if got, _ := authservID(v); got != want {
			t.Errorf("%q: %q, want %q", v, got, want)
		}
	}
}

// FuzzHeader holds two things: where nothing is dropped nothing changes, and how
// a message is cut into pieces makes no difference.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\nbody\r\n"), 3)
	f.Add([]byte("Authentication-Results: mx.example.net; spf=pass\r\n a\r\nX: y\r\n\r\n"), 1)
	f.Add([]byte("\tfolded first\r\nReceived: a\r\n\tb\r\n"), 5)
	f.Add([]byte("no header"), 2)
	f.Add([]byte("\r\n"), 1)
	f.Fuzz(func(t *testing.T, message []byte, piece int) {
		whole, h := filterHeader(t, message, max(len(message), 1))
		if h.dropped == 0 && !bytes.Equal(whole, message) {
			t.Fatalf("changed %q to %q", message, whole)
		}
		if len(whole) > len(message) {
			t.Fatalf("grew %q to %q", message, whole)
		}
		if cut, _ := filterHeader(t, message, max(1, piece)); !bytes.Equal(cut, whole) {
			t.Fatalf("in pieces of %d: %q, whole: %q", piece, cut, whole)
		}
	})
}

func TestMessageInMemoryAndFile(t *testing.T) {
	for _, size := range []int{0, 1, inMemory, inMemory + 1, 5 * inMemory} {
		dir := t.TempDir()
		m := newMessage(dir, new(bodies))
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for rest := want; len(rest) > 0; {
			n := min(1000, len(rest))
			if _, err := m.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if inFile := m.file != nil; inFile != (size > inMemory) {
			t.Errorf("%d octets: in a file: %v", size, inFile)
		}
		got, err := io.ReadAll(m.under([]byte("head")))
		if err != nil || string(got) != "head"+string(want) {
			t.Errorf("%d octets: read %d, %v", size, len(got), err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%d octets: names in the directory: %v, %v", size, left, err)
		}
		m.close()
	}
}

// Messages that are small but many go to files, too, once they fill the memory
// there is for them all; their end makes room.
func TestMemoryOfAllMessages(t *testing.T) {
	var all bodies
	if !all.hold(allInMemory - 10) {
		t.Fatal("no room at all")
	}
	write := func(n int) *message {
		m := newMessage(t.TempDir(), &all)
		for range n {
			if _, err := m.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	small, late := write(6), write(6)
	if small.file != nil || late.file == nil {
		t.Errorf("in files: the first %v, the second %v", small.file != nil, late.file != nil)
	}
	if got, err := io.ReadAll(late.under(nil)); err != nil || string(got) != "xxxxxx" {
		t.Errorf("read %q, %v", got, err)
	}
	small.close()
	if again := write(10); again.file != nil {
		t.Error("what a message held is not free at its end")
	} else {
		again.close()
	}
	late.close()
	if n := all.octets.Load(); n != allInMemory-10 {
		t.Errorf("%d octets are counted of nobody", n-(allInMemory-10))
	}
}

// A full disk is told from a broken one: R-BW-E10 wants 451 for our faults, and
// RFC 3463 has 4.3.1 for a full system.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("/dev/full is missing: %v", err)
	}
	defer full.Close()
	m := newMessage(t.TempDir(), new(bodies))
	m.file = full
	if _, err = m.Write([]byte("x")); !isFull(err) {
		t.Errorf("got %v", err)
	}
	if isFull(fmt.Errorf("hold message: %w", os.ErrPermission)) {
		t.Error("a broken disk passes for a full one")
	}
}

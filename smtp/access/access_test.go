package access

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailweir/disk"
)

var now = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *List {
	t.Helper()
	l, err := Open(path, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// read has entries as Read reads them.
func read(t *testing.T, i Import, text string) []Entry {
	t.Helper()
	entries, errs := i.Read(strings.NewReader(text))
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	return entries
}

// The entry that counts is the one for the fewest recipients, then the narrowest
// of its kind, and else the one that lets in.
func TestWhichEntryCounts(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "lists.json"))
	if err := l.Add(read(t, Import{}, `
allow 192.0.2.0/24
block 192.0.2.7
block 192.0.2.9 to=example.com
allow 192.0.2.9 to=jane@example.com
block 2001:db8::/32
block rdns:pool.example
allow rdns:mail.pool.example
block helo:liar.example
allow helo:friend.example
block from:spam.example
allow from:good@spam.example
block to:hall@example.com
block rdns:bad.example
allow from:known.example
block 198.51.100.1 until=2026-11-22T07:59:59Z
`)...); err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{Peer: a("192.0.2.1")}, "allow 192.0.2.0/24"},
		{Query{Peer: a("::ffff:192.0.2.1")}, "allow 192.0.2.0/24"},
		{Query{Peer: a("192.0.2.7")}, "block 192.0.2.7"},
		{Query{Peer: a("192.0.2.9")}, "allow 192.0.2.0/24"},
		{Query{Peer: a("192.0.2.9"), To: "bob@example.com"}, "block 192.0.2.9 for example.com"},
		{Query{Peer: a("192.0.2.9"), To: "Jane@example.com"}, "allow 192.0.2.9 for jane@example.com"},
		{Query{Peer: a("192.0.2.9"), To: "jane@other.example"}, "allow 192.0.2.0/24"},
		{Query{Peer: a("2001:db8::1")}, "block 2001:db8::/32"},
		{Query{Peer: a("198.51.100.1")}, ""},
		{Query{RDNS: "a.pool.example."}, "block rdns:pool.example"},
		{Query{RDNS: "pool.example"}, "block rdns:pool.example"},
		{Query{RDNS: "carpool.example"}, ""},
		{Query{RDNS: "x.mail.pool.example"}, "allow rdns:mail.pool.example"},
		{Query{HELO: "LIAR.example"}, "block helo:liar.example"},
		{Query{HELO: "friend.example"}, ""},
		{Query{HELO: "friend.example", HELOTrue: true}, "allow helo:friend.example"},
		{Query{Sender: "x@sub.spam.example"}, "block from:spam.example"},
		{Query{Sender: "Good@spam.example"}, "allow from:good@spam.example"},
		{Query{Sender: "good@spam.example", Forged: true}, "block from:spam.example"},
		{Query{Sender: "a@known.example", RDNS: "h.bad.example"}, "allow from:known.example"},
		{Query{Sender: "a@known.example", To: "hall@example.com"}, "block to:hall@example.com"},
		{Query{Peer: a("192.0.2.1"), Sender: "x@spam.example"}, "allow 192.0.2.0/24"},
		{Query{}, ""},
	} {
		e, ok := l.Find(c.q)
		if got := e.Told(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
}

// Promise 5: who is let in by a name, or for a recipient, is heard out before the
// entry that blocks his address is held against him.
func TestFindBlocked(t *testing.T) {
	peer := netip.MustParseAddr("::ffff:192.0.2.7")
	for also, want := range map[string]bool{
		"":                                    true,
		"allow 192.0.2.0/24":                  true, // wider than the block
		"block rdns:bad.example":              true,
		"allow 198.51.100.1 to=example.com":   true, // another address
		"allow rdns:mx.example":               false,
		"allow helo:mx.example":               false,
		"allow from:mx.example":               false,
		"allow 192.0.2.0/24 to=a@example.com": false,
		"allow 192.0.2.7/32":                  false, // takes its place
		"allow rdns:mx.example until=2026-11-22T07:59:59Z": true,
	} {
		l := open(t, filepath.Join(t.TempDir(), "lists.json"))
		if err := l.Add(read(t, Import{}, "block 192.0.2.7\n"+also)...); err != nil {
			t.Fatal(err)
		}
		if e, ok := l.FindBlocked(peer); ok != want || ok && e.Told() != "block 192.0.2.7" {
			t.Errorf("with %q: %v, %v, want %v", also, e.Told(), ok, want)
		}
	}
}

// What is written is read again, and what the field has is read.
func TestText(t *testing.T) {
	own := `allow 192.0.2.0/24 to=example.com since=2026-11-22T08:00:00Z until=2026-12-24T00:00:00Z by=root why=words to the end # too
block rdns:xn--bcher-kva.example by=anna
`
	entries := read(t, Import{}, own)
	var out bytes.Buffer
	if err := Write(&out, entries); err != nil || out.String() != own {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, c := range []struct {
		how  Import
		text string
		want []string
	}{
		{Import{}, "# cidr\n192.0.2.0/24 REJECT you spam\n10.0.0.0/8\tOK # ours\n2001:db8::/32 554 5.7.1 no\n192.0.2.7 DUNNO",
			[]string{"block 192.0.2.0/24: you spam", "allow 10.0.0.0/8", "block 2001:db8::/32: 5.7.1 no"}},
		{Import{}, "192.0.2 REJECT\n10. OK\n.dsl.example REJECT\nmail.dsl.example\n  OK", []string{"block 192.0.2.0/24", "allow 10.0.0.0/8", "block rdns:dsl.example", "allow rdns:mail.dsl.example"}},
		{Import{Of: From}, "Spam.Example REJECT\njane@x.example ok", []string{"block from:spam.example", "allow from:jane@x.example"}},
		{Import{Of: HELO}, "localhost REJECT", []string{"block helo:localhost"}},
		{Import{Of: To}, "hall@example.com 450 full", []string{"block to:hall@example.com: full"}},
		{Import{As: Block}, "192.0.2.1\n198.51.100.0/24 # note\nbücher.example\nx@y.example", []string{"block 192.0.2.1", "block 198.51.100.0/24", "block rdns:xn--bcher-kva.example", "block from:x@y.example"}},
	} {
		var got []string
		for _, e := range read(t, c.how, c.text) {
			got = append(got, e.Told())
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n%q, want\n%q", c.text, got, c.want)
		}
	}
	for text, want := range map[string]string{
		"192.0.2.1":               "line 1: 192.0.2.1 stands alone",
		"\nx.example HOLD":        `line 2: "HOLD" is no action`,
		"!192.0.2.1 REJECT":       "line 1: ",
		"block rdns:a@b.example":  "a host has none: write rdns:b.example",
		"allow example.com":       `"example.com" is no address: write rdns:example.com`,
		"block 192.0.2.1 for=12h": `"for=12h" is neither to=`,
		"block from:@":            "neither a domain nor a mailbox",
	} {
		if _, errs := (Import{}).Read(strings.NewReader(text)); len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%q: %v, want %s", text, errs, want)
		}
	}
	out.Reset()
	if err := WritePostfix(&out, read(t, Import{As: Block}, "192.0.2.1\n192.0.3.0/24 OK\nx.example"), Address); err != nil || out.String() != "192.0.2.1\tREJECT\n192.0.3.0/24\tOK\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

// The lists outlive a restart, are changed as a whole or not at all, and a file
// that is damaged is moved aside.
func TestListsOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lists.json")
	l := open(t, path)
	want := read(t, Import{}, "block rdns:a.example why=spam\nallow 192.0.2.0/24 to=example.com by=root\n")
	if err := l.Add(want...); err != nil {
		t.Fatal(err)
	}
	if err := l.Add(append(read(t, Import{}, "block 10.0.0.1"), Entry{Action: Allow, Subject: Subject{Kind: To, Name: "x.example"}})...); err == nil {
		t.Error("a recipient was allowed")
	}
	if got := open(t, path).Entries(); len(got) != 2 || got[0].Told() != want[1].Told() || got[1].Told() != want[0].Told() {
		t.Errorf("%+v", got)
	}
	rdns := want[0].Subject
	if err := l.Remove(Allow, rdns, ""); !errors.Is(err, ErrNoEntry) {
		t.Errorf("an entry to block was removed as one to allow: %v", err)
	}
	if err := l.Remove(Block, rdns, ""); err != nil || len(open(t, path).Entries()) != 1 {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path, func() time.Time { return now })
	if err == nil || len(l.Entries()) != 0 {
		t.Errorf("damaged lists: %v", err)
	}
	if _, err := os.Stat(path + disk.Aside); err != nil {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"allow 192.0.2.0/24 to=x.example until=2026-12-24T00:00:00Z by=a why=b", "1.2.3 REJECT x\n  y", "from:a@b OK", "::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := Import{As: Block}.Read(strings.NewReader(text))
		var out bytes.Buffer
		if err := Write(&out, entries); err != nil {
			t.Fatal(err)
		}
		again, errs := Import{}.Read(bytes.NewReader(out.Bytes()))
		if len(errs) > 0 || len(again) != len(entries) {
			t.Fatalf("%q was written as %q, of which is read %+v (%v)", text, out.String(), again, errs)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	l := &List{now: func() time.Time { return now }}
	var entries []Entry
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		entries = append(entries, Entry{Action: Block, Subject: Subject{Kind: Address, Prefix: netip.PrefixFrom(a, 32)}})
	}
	l.index.Store(newIndex(entries))
	q := Query{Peer: netip.MustParseAddr("192.0.2.1"), RDNS: "mail.a.example", HELO: "mail.a.example", Sender: "x@a.example", To: "y@b.example"}
	for b.Loop() {
		l.Find(q)
	}
}

// A name with an empty label is none, and its line is told.
func TestEmptyLabels(t *testing.T) {
	for _, name := range []string{"bogus..", "a..example", "..a.example"} {
		_, errs := Import{As: Block}.Read(strings.NewReader("good.example.\n.good.example\n" + name + "\n"))
		if line := (*LineError)(nil); len(errs) != 1 || !errors.As(errs[0], &line) || line.Line != 3 {
			t.Errorf("%q: %v", name, errs)
		}
	}
}

package feed

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mailweir/prefix"
)

// publisher is a real server of a list, which may be in a mood.
type publisher struct {
	*httptest.Server
	text atomic.Value // of the list
	mood atomic.Value // "", html, page, cut, hang, 500
	same atomic.Int64 // times that 304 was said
}

func publish(t *testing.T, text string) *publisher {
	p := &publisher{}
	p.text.Store(text)
	p.mood.Store("")
	hang := make(chan struct{})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := p.text.Load().(string)
		etag := fmt.Sprintf(`"%x"`, len(text))
		switch p.mood.Load() {
		case "html":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<!DOCTYPE html><p>Too many requests")
		case "page":
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, "<!DOCTYPE html><p>Sorry")
		case "cut":
			w.Header().Set("Content-Length", fmt.Sprint(2*len(text)))
			io.WriteString(w, text)
		case "hang":
			io.WriteString(w, text[:len(text)/2])
			w.(http.Flusher).Flush()
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		case "500":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("ETag", etag)
			if r.Header.Get("If-None-Match") == etag {
				p.same.Add(1)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, text)
		}
	}))
	t.Cleanup(func() { close(hang); p.Close() })
	return p
}

// reader is a feed of a test, with what it tells.
type reader struct {
	*Feed
	now   time.Time
	alarm string
}

func read(t *testing.T, source, file string, spared map[netip.Prefix]string) *reader {
	r := &reader{now: time.Unix(1e9, 0)}
	client := NewClient(nil)
	client.Timeout = 500 * time.Millisecond
	r.Feed = Open(Options{
		Name: "drop", Source: source, Refresh: time.Hour, MaxEntries: 1000, File: file, Client: client,
		Spared: func() map[netip.Prefix]string { return spared }, Changed: func(*prefix.Set) {},
		Alarm: func(what string) { r.alarm = what }, Clock: func() time.Time { return r.now }, Log: slog.Default(),
	})
	return r
}

func (r *reader) has(addr string) bool {
	_, ok := r.Set().Find(netip.MustParseAddr(addr))
	return ok
}

// nets is a list of so many networks of documentation and testing.
func nets(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "198.18.%d.0/24\n", i)
	}
	return b.String()
}

// R-BX-04: whatever is wrong with a list, the last good one stands.
func TestTheLastGoodListStands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drop.json")
	p := publish(t, "; Spamhaus DROP List\n192.0.2.0/24 ; SBL1\n2001:db8::/32 ; SBL2\n")
	r := read(t, p.URL, file, nil)
	if err := r.Fetch(t.Context(), false); err != nil || !r.has("192.0.2.7") || !r.has("2001:db8::7") || r.has("198.51.100.1") {
		t.Fatalf("the list is not in force: %v", err)
	}
	if err := r.Fetch(t.Context(), false); err != nil || p.same.Load() != 1 {
		t.Errorf("the same list was fetched again (%v)", err)
	}
	for mood, want := range map[string]string{
		"html": "HTML", "page": "no list: line 1", "cut": "cut off", "hang": "cannot be fetched", "500": "500 Internal",
	} {
		p.text.Store(nets(2)) // another, so that nothing says 304
		p.mood.Store(mood)
		err := r.Fetch(t.Context(), false)
		if err == nil || !strings.Contains(err.Error(), want) || !r.has("192.0.2.7") || r.has("198.18.0.1") {
			t.Errorf("%s: %v, want %q and the list of before", mood, err, want)
		}
		if again := read(t, p.URL, file, nil); !again.has("192.0.2.7") || again.Status().Entries != 2 {
			t.Errorf("%s: a restart has %+v", mood, again.Status())
		}
	}
	p.mood.Store("500")
	r.now = r.now.Add(4 * time.Hour)
	if r.Fetch(t.Context(), false); !strings.Contains(r.alarm, "stale") {
		t.Errorf("nobody is told that it is stale: %q", r.alarm)
	}
	p.mood.Store("")
	if err := r.Fetch(t.Context(), false); err != nil || r.alarm != "" || !r.has("198.18.1.1") || r.has("192.0.2.7") {
		t.Errorf("the new list: %v, alarm %q", err, r.alarm)
	}
}

// A list that is one, and is not what it was, is for a person to look at.
func TestAListThatChangedTooMuch(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"empty":         {nets(3), "; nothing\n", "empty"},
		"much longer":   {nets(60), nets(200), "200 entries and had 60"},
		"much shorter":  {nets(200), nets(60), "60 entries and had 200"},
		"wide":          {nets(3), "0.0.0.0/1\n", "no list of attackers"},
		"all of IPv6":   {nets(3), "::/0\n", "no list of attackers"},
		"a region":      {nets(3), "2a00::/12\n", "no list of attackers"},
		"twice as wide": {nets(3), nets(3) + "16.0.0.0/8\n", "twice the addresses"},
		"too long":      {nets(3), strings.Repeat("198.18.0.1\n", 1001), "max_entries"},
		"too large":     {nets(3), strings.Repeat("# words\n", 40000), "max_entries"},
	} {
		p := publish(t, c.before)
		r := read(t, p.URL, filepath.Join(t.TempDir(), "f"), nil)
		if err := r.Fetch(t.Context(), false); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := r.Status().Entries
		p.text.Store(c.after)
		if err := r.Fetch(t.Context(), false); err == nil || !strings.Contains(err.Error(), c.want) || r.Status().Entries != before {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if !strings.Contains(r.alarm, "not taken") {
			t.Errorf("%s: the alarm is %q", name, r.alarm)
		}
		believable := name == "much longer" || name == "empty" || name == "much shorter" || name == "twice as wide"
		if err := r.Fetch(t.Context(), true); (err == nil) != believable {
			t.Errorf("%s, by an operator: %v", name, err)
		}
	}
}

func TestWhoMustNotBeHitIsLeftOut(t *testing.T) {
	p := publish(t, "192.0.2.0/24\n198.51.100.7\n203.0.113.0/24\n")
	r := read(t, p.URL, filepath.Join(t.TempDir(), "f"), map[netip.Prefix]string{
		netip.MustParsePrefix("192.0.2.25/32"):   "an address of this machine",
		netip.MustParsePrefix("198.51.100.0/24"): "weir allow",
	})
	if err := r.Fetch(t.Context(), false); err != nil || r.has("192.0.2.1") || r.has("198.51.100.7") || !r.has("203.0.113.1") {
		t.Errorf("%v, in force: %v", err, r.Set().List())
	}
	if !strings.Contains(r.alarm, "192.0.2.25/32 (an address of this machine)") || !strings.Contains(r.alarm, "weir allow") {
		t.Errorf("the alarm is %q", r.alarm)
	}
}

func TestAFileIsReadWhenItChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# ours\n192.0.2.1 # one\n")
	r := read(t, path, filepath.Join(t.TempDir(), "f"), nil)
	if err := r.Fetch(t.Context(), false); err != nil || !r.has("192.0.2.1") {
		t.Fatal(err)
	}
	write("192.0.2.1\n192.0.2.9\n")
	if err := r.Fetch(t.Context(), false); err != nil || !r.has("192.0.2.9") {
		t.Error(err)
	}
	os.Remove(path)
	if err := r.Fetch(t.Context(), false); err == nil || !r.has("192.0.2.9") {
		t.Errorf("a file that is gone: %v", err)
	}
}

// A server that says nothing more, with a fetch under way, keeps nobody waiting
// who reloads.
func TestAReloadDoesNotWaitForAFetch(t *testing.T) {
	p := publish(t, nets(3))
	r := read(t, p.URL, filepath.Join(t.TempDir(), "f"), nil)
	if err := r.Fetch(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	p.text.Store(nets(4))
	p.mood.Store("hang")
	r.o.Client.Timeout = time.Minute
	ctx, stop := context.WithCancel(t.Context())
	fetched, again := make(chan error, 1), make(chan struct{})
	go func() { fetched <- r.Fetch(ctx, false) }()
	for r.fetching.TryLock() { // until it is under way
		r.fetching.Unlock()
		time.Sleep(time.Millisecond)
	}
	go func() { defer close(again); r.Again() }()
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		t.Error("a reload waits for the fetch")
	}
	stop()
	if err := <-fetched; err == nil || !r.has("198.18.2.1") {
		t.Errorf("%v, in force: %v", err, r.Set().List())
	}
	<-again
}

// What a clock that was ahead once wrote down puts nothing off.
func TestAClockThatWasAhead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	p := publish(t, nets(3))
	r := read(t, p.URL, file, nil)
	r.now = r.now.AddDate(5, 0, 0)
	if err := r.Fetch(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if wait := read(t, p.URL, file, nil).first(); wait > 2*time.Hour {
		t.Errorf("the next fetch is due in %v", wait)
	}
}

// A path that is no file, such as a pipe that nobody writes to, holds nobody up.
func TestAPipeIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r := read(t, path, filepath.Join(t.TempDir(), "f"), nil)
	said := make(chan error, 1)
	go func() { said <- r.Fetch(t.Context(), false) }()
	select {
	case err := <-said:
		if err == nil || !strings.Contains(err.Error(), "no file") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for a writer")
	}
}

// What is told of those that are left out is the same each time.
func TestWhoIsLeftOutIsToldInOrder(t *testing.T) {
	p := publish(t, nets(9))
	spared := map[netip.Prefix]string{}
	for i := range 9 {
		spared[netip.MustParsePrefix(fmt.Sprintf("198.18.%d.1/32", i))] = "weir allow"
	}
	r := read(t, p.URL, filepath.Join(t.TempDir(), "f"), spared)
	r.Fetch(t.Context(), false)
	first := r.alarm
	for range 20 {
		if r.Again(); r.alarm != first {
			t.Fatalf("the alarm was %q and is %q", first, r.alarm)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "[]",
		"192.0.2.7\n\n  # x\n;y\n":   "[192.0.2.7/32]",
		"192.0.2.7/24 ; SBL1 words":  "[192.0.2.0/24]",
		"::ffff:192.0.2.0/120":       "[192.0.2.0/24]",
		"2001:db8::1":                "[2001:db8::1/128]",
		"192.0.2.7/24 SBL1":          `line 1: "192.0.2.7/24 SBL1" is no address and no prefix`,
		"192.0.2.0/24\nmail.example": `line 2: "mail.example" is no address and no prefix`,
		`{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}` + "\n" + `{"type":"metadata","timestamp":1,"size":1,"records":1,"copyright":"x"}`: "[192.0.2.0/24]",
		`{"cidr":"192.0.2.0/24"}` + "\n" + `{"type":"metadata","records":2}`:                                                                       "line 2: it has 1 entries, and says that it has 2",
		`{"cidr":"192.0.2.0/24"`: `line 1: "{\"cidr\":\"192.0.2.0/24\"" is no JSON`,
		`{"asn":64500}`:          `line 1: "" is no address and no prefix`,
	} {
		list, err := Parse(strings.NewReader(text), 1000)
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("192.0.2.0/24 ; SBL1\n")
	f.Add(`{"cidr":"192.0.2.0/24"}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(strings.NewReader(text), 1000)
		for _, p := range list {
			if !p.IsValid() || p != p.Masked() || err != nil {
				t.Errorf("%v, %v", p, err)
			}
		}
	})
}

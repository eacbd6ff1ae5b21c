package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type number struct {
	N int `json:"n"`
}

// served answers on a socket of its own until the test ends.
func served(t *testing.T, allow []uint32) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "role.sock")
	l, err := Socket{Path: path, Mode: 0o600, UID: -1, GID: -1}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /double", Handle(func(r *http.Request, in number) (number, error) {
		if in.N < 0 {
			return number{}, &Error{Class: Refused, Message: "no negatives", Lines: []string{"line 1: -1", "line 2: -2"}}
		}
		if PeerUID(r.Context()) != uint32(os.Geteuid()) {
			return number{}, fmt.Errorf("caller is %d", PeerUID(r.Context()))
		}
		return number{2 * in.N}, nil
	}))
	mux.Handle("POST /text", HandleText(func(_ *http.Request, body io.Reader) (number, error) {
		b, err := io.ReadAll(body)
		return number{len(b)}, err
	}))
	mux.Handle("GET /count", Stream(func(_ *http.Request, _ None, emit func(any) error) error {
		for i := range 1000 {
			if err := emit(number{i}); err != nil {
				return err
			}
		}
		return Refusef("no more than 1000")
	}))
	mux.Handle("GET /few", Stream(func(_ *http.Request, _ None, emit func(any) error) error { return emit(number{7}) }))
	mux.HandleFunc("GET /endless", func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat("x", 1<<20))
		for _, err := w.Write([]byte(`{"item":"`)); err == nil; {
			_, err = w.Write(chunk)
		}
	})
	mux.HandleFunc("GET /swelling", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "[{}", strings.Repeat(",{}", 1<<19), "]")
	})
	mux.HandleFunc("GET /swelling-names", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"A":["`, strings.Repeat(`\\\"`, 1001), `"`, strings.Repeat(`,""`, 1<<19), "]}]")
	})
	mux.HandleFunc("GET /swelling-item", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"item":[{}]}`, `{"item":[{}`, strings.Repeat(",{}", 1<<19), "]}")
	})
	mux.HandleFunc("GET /commas", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `"`, strings.Repeat(",", 1<<20), strings.Repeat(`[`, 1<<20), `"`)
	})
	mux.HandleFunc("GET /long", func(w http.ResponseWriter, _ *http.Request) { // more than one item may be, in good ones
		item := strings.Repeat("x", 3<<20)
		for range 7 {
			fmt.Fprintf(w, `{"item":"%s"}`, item)
		}
		w.Write([]byte(`{"end":true}`))
	})
	mux.HandleFunc("GET /cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"item":{"n":1}}` + "\n"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, allow, mux) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return NewClient(path, "role")
}

func self() []uint32 { return []uint32{uint32(os.Geteuid())} }

func TestDo(t *testing.T) {
	c := served(t, self())
	var out number
	if err := c.Do(context.Background(), "POST", "/double", number{21}, &out); err != nil || out.N != 42 {
		t.Errorf("got %v, %v", out, err)
	}
	if err := c.Do(context.Background(), "POST", "/text", strings.NewReader(strings.Repeat("x", 3<<20)), &out); err != nil || out.N != 3<<20 {
		t.Errorf("a long text: %v, %v", out, err)
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	c := served(t, self())
	err := c.Do(context.Background(), "POST", "/double", number{-1}, nil)
	var e *Error
	if !errors.As(err, &e) || e.Message != "no negatives" || len(e.Lines) != 2 || ExitCode(err) != 1 {
		t.Errorf("refused: %#v", err)
	}
	if err := c.Do(context.Background(), "POST", "/double", map[string]int{"m": 1}, nil); ExitCode(err) != 2 || !strings.Contains(err.Error(), `unknown field "m"`) {
		t.Errorf("a misspelt key: %v, exit code %d", err, ExitCode(err))
	}
	if err := c.Do(context.Background(), "POST", "/nothing", nil, nil); ExitCode(err) != 1 || !strings.Contains(err.Error(), "404") {
		t.Errorf("an unknown verb: %v", err)
	}
}

func TestStream(t *testing.T) {
	c := served(t, self())
	next := 0
	count := func(item json.RawMessage) error {
		var n number
		if err := json.Unmarshal(item, &n); err != nil || n.N != next {
			return fmt.Errorf("item %d is %s", next, item)
		}
		next++
		return nil
	}
	if err := c.Stream(context.Background(), "GET", "/count", nil, count); err == nil || err.Error() != "no more than 1000" || next != 1000 {
		t.Errorf("%d items, then %v", next, err)
	}
	enough := errors.New("enough")
	if err := c.Stream(context.Background(), "GET", "/count", nil, func(json.RawMessage) error { return enough }); err != enough {
		t.Errorf("stopped by the caller: %v", err)
	}
	next = 7
	if err := c.Stream(context.Background(), "GET", "/few", nil, count); err != nil || next != 8 {
		t.Errorf("a whole stream: %v", err)
	}
	next = 1
	if err := c.Stream(context.Background(), "GET", "/cut", nil, count); err == nil {
		t.Error("a stream that was cut passes for a whole one")
	}
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	leave(t, dead)
	for _, path := range []string{filepath.Join(dir, "none.sock"), dead} {
		err := NewClient(path, "guard").Do(context.Background(), "GET", "/", nil, nil)
		if !errors.Is(err, ErrNotRunning) || ExitCode(err) != 3 || !strings.Contains(err.Error(), "guard is not running") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, exit code %d", path, err, ExitCode(err))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := NewClient(dead, "guard").Do(ctx, "GET", "/", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// leave makes the socket of a process that died.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStrangersAreTurnedAway(t *testing.T) {
	c := served(t, []uint32{4_000_000})
	err := c.Do(context.Background(), "POST", "/double", number{1}, nil)
	if ExitCode(err) != 1 || !strings.Contains(err.Error(), "run the command as 4000000") {
		t.Errorf("got %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	s := Socket{Path: filepath.Join(dir, "a.sock"), Mode: 0o620, UID: -1, GID: -1}
	leave(t, s.Path)
	l, err := s.Listen()
	if err != nil {
		t.Fatalf("after a dead process: %v", err)
	}
	if info, err := os.Stat(s.Path); err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	c, err := net.Dial("unix", s.Path)
	if err != nil {
		t.Errorf("the first one does not listen any more: %v", err)
	} else {
		c.Close()
	}
	l.Close()
	if err := os.WriteFile(s.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	s = Socket{Path: filepath.Join(dir, "p.sock"), Mode: 0o600, UID: -1, GID: -1, Packet: true}
	if l, err = s.Listen(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one for packets: %v", err)
	}
	l.Close()
}

// The owner of the socket file may connect, nobody else but root.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives a socket to another user")
	}
	s := Socket{Path: filepath.Join(t.TempDir(), "a.sock"), Mode: 0o600, UID: 60001, GID: -1}
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var st unix.Stat_t
	if err := unix.Stat(s.Path, &st); err != nil || st.Uid != 60001 || st.Mode&0o777 != 0o600 {
		t.Errorf("owner %d, mode %o, %v", st.Uid, st.Mode&0o777, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	c := served(t, self())
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var out number
			if err := c.Do(context.Background(), "POST", "/double", number{i}, &out); err != nil || out.N != 2*i {
				t.Errorf("double of %d is %d, %v", i, out.N, err)
			}
		})
	}
	wg.Wait()
}

// A role that was taken over cannot take the memory of the command that asks it.
func TestEndlessAnswer(t *testing.T) {
	c := served(t, []uint32{uint32(os.Geteuid())})
	var out any
	if err := c.Do(t.Context(), "GET", "/endless", nil, &out); err == nil || !strings.Contains(err.Error(), "longer than any true one") {
		t.Errorf("an answer without end: %v", err)
	}
	items := 0
	each := func(json.RawMessage) error { items++; return nil }
	if err := c.Stream(t.Context(), "GET", "/endless", nil, each); err == nil || items > 0 || !strings.Contains(err.Error(), "longer than any true one") {
		t.Errorf("an item without end: %v after %d", err, items)
	}
	if err := c.Stream(t.Context(), "GET", "/long", nil, each); err != nil || items != 7 {
		t.Errorf("a long stream: %v after %d of 7", err, items)
	}
}

// Nor by many values, each of which is small as text and large as it is kept.
func TestSwellingAnswer(t *testing.T) {
	c := served(t, self())
	var out []struct{ A [32]string }
	for _, path := range []string{"/swelling", "/swelling-names"} {
		if err := c.Do(t.Context(), "GET", path, nil, &out); err == nil || !strings.Contains(err.Error(), "more values than any true one") {
			t.Errorf("%s: %v", path, err)
		}
	}
	items := 0
	each := func(item json.RawMessage) error { items++; return json.Unmarshal(item, &out) }
	if err := c.Stream(t.Context(), "GET", "/swelling-item", nil, each); err == nil || items != 1 || !strings.Contains(err.Error(), "more values than any true one") {
		t.Errorf("an item of many values: %v after %d", err, items)
	}
	if n := len(out); n > 1000 {
		t.Errorf("%d values were read", n)
	}
	var text string
	if err := c.Do(t.Context(), "GET", "/commas", nil, &text); err != nil || len(text) != 2<<20 {
		t.Errorf("commas in a text: %d, %v", len(text), err)
	}
}

// soon makes callers be let go soon.
func soon(t *testing.T) {
	was := headerTimeout
	headerTimeout = time.Second
	t.Cleanup(func() { headerTimeout = was })
}

// Thousands who connect and say half of what they want, or nothing, keep nobody
// else from being answered, and do not stay.
func TestHalfOpen(t *testing.T) {
	soon(t)
	c := served(t, self())
	var open []net.Conn
	for i := range 2000 {
		conn, err := net.Dial("unix", c.path)
		if err != nil {
			t.Fatal(i, err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprint(conn, "POST /double HTTP/1.1\r\nHost: ")
		}
		open = append(open, conn)
	}
	var out number
	if err := c.Do(t.Context(), "POST", "/double", number{21}, &out); err != nil || out.N != 42 {
		t.Errorf("among them: %v, %v", out, err)
	}
	for _, conn := range open {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("one that said nothing is still there")
		}
	}
}

// A stranger's connection does not outlive the answer, and one of ours that is
// idle not for long.
func TestIdleConnections(t *testing.T) {
	soon(t)
	for who, allow := range map[string][]uint32{"a stranger": {4_000_000}, "one of ours": self()} {
		c := served(t, allow)
		conn, err := net.Dial("unix", c.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /few HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%s is still connected: %v", who, err)
		}
		if closes := strings.Contains(string(answer), "Connection: close"); closes != (allow[0] == 4_000_000) {
			t.Errorf("%s is told %q", who, answer)
		}
	}
}

// A link in the place of a role's socket leads nobody to a socket of root's.
func TestLinkInThePlaceOfASocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives a folder to another user")
	}
	ours := served(t, self())
	dir := t.TempDir()
	link := filepath.Join(dir, "control.sock")
	if err := os.Symlink(ours.path, link); err != nil {
		t.Fatal(err)
	}
	var out number
	if err := NewClient(link, "mail").Do(t.Context(), "POST", "/double", number{21}, &out); err != nil || out.N != 42 {
		t.Errorf("in a folder of ours: %v, %v", out, err)
	}
	if err := os.Chown(dir, 60001, -1); err != nil {
		t.Fatal(err)
	}
	err := NewClient(link, "mail").Do(t.Context(), "POST", "/double", number{21}, &out)
	if ExitCode(err) != 1 || !strings.Contains(err.Error(), "leads to a process of user root") {
		t.Errorf("in a folder of somebody else: %v", err)
	}
}

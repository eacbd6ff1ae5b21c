package relay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
)

// write replaces the file as an editor does, a while ago, and lets the list look
// again.
func write(t *testing.T, l *List, path, text string) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Minute)
	if err := os.Chtimes(tmp, then, then); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
	again(l)
}

func again(l *List) {
	if l != nil {
		l.mu.Lock()
		l.checked = time.Time{}
		l.mu.Unlock()
	}
}

func TestList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "# who\n\nu1@example.com\n  U2 \npostmaster@other.example\tOK\n\"a b\"@example.com\nu3@Example.COM relay\n")
	l, err := OpenList(path, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	for local, want := range map[string]bool{"u1": true, "U1": true, "u2": true, "a b": true, "u3": true, "u4": false, "postmaster": false, "who": false} {
		if l.Has(box(local)) != want {
			t.Errorf("%s: %v", local, !want)
		}
	}
	if !l.Has(address.Mailbox{Local: "postmaster", Domain: "other.example"}) || l.Len() != 5 {
		t.Errorf("%d recipients", l.Len())
	}
}

// TestListChanges: a new file is read, a bad one changes nothing but Problem.
func TestListChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "u1\n")
	l, err := OpenList(path, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, path, "u2\n")
	if l.Has(box("u1")) || !l.Has(box("u2")) || l.Problem() != "" {
		t.Errorf("after a change: %q", l.Problem())
	}
	bad := map[string]func(){
		"no recipients":                     func() { write(t, l, path, "# empty\n") },
		":2: ":                              func() { write(t, l, path, "u1\n<u3@example.com>\n") },
		"no such file":                      func() { os.Remove(path); again(l) },
		"is a directory":                    func() { os.Mkdir(path, 0o755); os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); again(l) },
		"the list read before stays in use": func() { again(l) },
	}
	for _, words := range []string{"no recipients", ":2: ", "no such file", "is a directory", "the list read before stays in use"} {
		bad[words]()
		if !strings.Contains(l.Problem(), words) || !l.Has(box("u2")) || l.Has(box("u3")) {
			t.Errorf("problem %q, want %q", l.Problem(), words)
		}
	}
	os.Remove(path)
	write(t, l, path, "u3\n")
	if l.Problem() != "" || !l.Has(box("u3")) {
		t.Errorf("mended, and still %q", l.Problem())
	}
}

// TestListBeingWritten: a file that changed within the second may be half of one.
func TestListBeingWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "u1\nu2\n")
	l, err := OpenList(path, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := os.WriteFile(path, []byte("u1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	if err := l.load(now.Add(listCheck / 2)); !errors.Is(err, errYoung) || l.Len() != 2 {
		t.Errorf("half a second old: %d recipients, %v", l.Len(), err)
	}
	if err := l.load(now.Add(listCheck)); err != nil || l.Len() != 1 {
		t.Errorf("a second old: %d recipients, %v", l.Len(), err)
	}
}

// TestListRoute: recipients = "file:PATH" needs no backend to say no.
func TestListRoute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recipients")
	write(t, nil, path, "u1\n")
	s := &fake{down: errRefused}
	r := newRig(t, "file:"+path, "", s)
	defer r.stop()
	if a := r.verify("u1"); a.State != smtp.Valid {
		t.Errorf("listed: %+v", a)
	}
	if a := r.verify("u2"); a.State != smtp.Unknown || a.Reply.Code != 550 {
		t.Errorf("not listed: %+v", a)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again(r.router.routes["example.com"].list)
	if st := r.router.Status(r.memory); len(st.Alarms) != 1 || st.Alarms[0].Name != "recipients_file" {
		t.Errorf("alarms %+v", st.Alarms)
	}
	for _, recipients := range []string{"file:/nonexistent", "ldap://x", "Backend"} {
		if _, err := NewRouter([]Domain{{Name: "example.com", Backends: r.backend, Recipients: recipients}}, r.memory); err == nil {
			t.Errorf("recipients = %q was taken", recipients)
		}
	}
}

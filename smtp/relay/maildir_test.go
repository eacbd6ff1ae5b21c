package relay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func maildirRig(t *testing.T, dir string) *rig {
	t.Helper()
	u, err := ParseURL("maildir:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBackend(BackendOptions{Name: "files", URL: u, Hostname: "edge.example"})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, backend: []*Backend{b}}
	r.start("backend", "")
	t.Cleanup(r.stop)
	return r
}

func TestMaildir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	r := maildirRig(t, dir)
	if a := r.verify("u1"); a.State != "any" {
		t.Errorf("answer %+v", a)
	}
	long := strings.Repeat("x", 64<<10-1) + "\r\n" // CR at the end of a buffer
	body := "Subject: x\r\n\r\n.\r\nlone \r and\r\n" + long + strings.Repeat("y", 64<<10) + "\r\nend\r\n"
	for range 2 {
		if got := r.send(body, "u1", "u 2"); got.Reply.Code != 250 {
			t.Fatalf("receipt %+v", got)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "new", "*"))
	if err != nil || len(files) != 1 { // the second is a retry whose client heard nothing
		t.Fatalf("%v, %v", files, err)
	}
	got, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	want := "Return-Path: <joe@sender.example>\nDelivered-To: u1@example.com\nDelivered-To: \"u 2\"@example.com\n" +
		strings.ReplaceAll(body, "\r\n", "\n")
	if string(got) != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if tmp, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(tmp) != 0 {
		t.Errorf("left in tmp: %v", tmp)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestMaildirThatCannotBeWritten has the sender come again, and says what to do.
func TestMaildirThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := maildirRig(t, dir).send("x\r\n", "u1")
	if got.Reply.Code != 451 || !strings.Contains(got.Detail, "give our user the right") {
		t.Errorf("receipt %+v", got)
	}
}

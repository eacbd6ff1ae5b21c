package command

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/smtp/access"
)

// weir check tells which rules of a file keep out whom weir allow lets in by
// name, and whom nothing proves.
func TestNameWarnings(t *testing.T) {
	run := t.TempDir()
	var lists access.Import
	entries, errs := lists.Read(strings.NewReader("allow rdns:example.org why=x\nallow from:partner.example why=x\nallow 203.0.113.1 why=x\n" +
		"block helo:liar.example why=x\nallow boss@isp.example why=x\nallow helo:mail.example.org why=x\n"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for i := range entries {
		entries[i].Forgeable = strings.HasPrefix(entries[i].Subject.String(), "from:boss@")
	}
	answerLists(t, mailapi.Socket(run), entries)
	const base = "hostname = \"mx1.example.com\"\n[backend.office]\nurl = \"smtp://192.0.2.10:25\"\n[domain.\"example.com\"]\nbackends = [\"office\"]\n"
	names := "rdns:example.org, from:partner.example, from:boss@isp.example and 1 more"
	forged := "weir allow --forgeable lets anybody in who writes the right sender: from:boss@isp.example"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no such rule", base + "[feed.drop]\nsource = \"/etc/drop\"\naction = \"reject\"\n", []string{forged}},
		{"a feed that bans", base + "[feed.drop]\nsource = \"/etc/drop\"\naction = \"ban\"\n", []string{"feed.drop.action is about addresses", names, forged}},
		{"countries", base + "[geo]\ndrop = [\"NL\"]\nban = [\"FR\"]\n", []string{"geo.drop is about addresses", "geo.ban is about addresses", names, forged}},
	} {
		file := filepath.Join(t.TempDir(), "weir.toml")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		problems := (&cli{runDir: run}).nameWarnings(t.Context(), file)
		for _, p := range problems {
			said.WriteString(p.String() + "\n")
		}
		for _, w := range c.want {
			if !strings.Contains(said.String(), w) {
				t.Errorf("%s: %q is missing from\n%s", c.name, w, said.String())
			}
		}
		if len(c.want) == 1 && len(problems) != 1 || strings.Contains(said.String(), "203.0.113.1") || strings.Contains(said.String(), "liar") {
			t.Errorf("%s: too much is said:\n%s", c.name, said.String())
		}
	}
	if problems := (&cli{runDir: t.TempDir()}).nameWarnings(t.Context(), "/nowhere"); problems != nil {
		t.Errorf("where nothing runs: %v", problems)
	}
}

// answerLists is the mail role's socket, as far as it tells of its lists.
func answerLists(t *testing.T, path string, entries []access.Entry) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /lists", control.Stream(func(_ *http.Request, _ struct{}, emit func(any) error) error {
		for _, e := range entries {
			if err := emit(e); err != nil {
				return err
			}
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(ctx, l, []uint32{uint32(os.Getuid())}, mux) }()
	t.Cleanup(func() { cancel(); <-ended })
}

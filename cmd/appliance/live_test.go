package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailweir/lab"
)

// TestLive plays testdata/live/*.txt: what an operator types on a machine where
// the appliance runs, and what he reads. Each file has an appliance of its own.
//
//	$ command     on the edge's machine, with weir in the path
//	out$ command  on the machine from which clients come
//	! stop        weir run, as by SIGTERM; ! hangup; ! start; ! kill ROLE; ! kill all
//	…             the output; [exit 1] behind it when that is not 0
//
// What differs from run to run is masked. UPDATE_LIVE=1 writes the files anew.
func TestLive(t *testing.T) {
	files, err := filepath.Glob("testdata/live/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b := newKeyBench(t)
			got := b.play(string(text))
			if os.Getenv("UPDATE_LIVE") != "" {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(text) {
				t.Errorf("got\n%s", diff(string(text), got))
			}
		})
	}
}

// play runs the commands of a transcript and returns it with what they said.
func (b *keyBench) play(text string) string {
	b.t.Helper()
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		host, command := b.edge, ""
		switch {
		case strings.HasPrefix(line, "$ "):
			command = line[2:]
		case strings.HasPrefix(line, "out$ "):
			host, command = b.out, line[5:]
		case strings.HasPrefix(line, "! "):
			b.operate(line[2:])
			fallthrough
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&out, line)
			continue
		default:
			continue // what was said when the file was written
		}
		fmt.Fprintf(&out, "%s\n%s", line, mask(b.shell(host, command)))
	}
	return out.String()
}

// operate starts and ends processes, by their ids.
func (b *keyBench) operate(what string) {
	b.t.Helper()
	switch what {
	case "stop":
		b.weir.Stop()
	case "hangup":
		b.weir.Process().Signal(syscall.SIGHUP)
	case "start":
		b.weir.Start()
	case "kill all":
		b.weir.KillAll()
	default:
		role, ok := strings.CutPrefix(what, "kill ")
		if !ok {
			b.t.Fatalf("unknown: ! %s", what)
		}
		b.weir.Kill(role)
	}
}

// shell runs a command line on a host and returns all that it says.
func (b *keyBench) shell(host *lab.Host, line string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	prelude := fmt.Sprintf("PATH=%s:/usr/sbin:/usr/bin; ", filepath.Dir(b.weir.Binary()))
	out, err := host.RunCommand(ctx, host.Command("/bin/sh", "-c", prelude+"("+line+") 2>&1"))
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		out = strings.TrimSuffix(out, "\n") + fmt.Sprintf("\n[exit %d]\n", exit.ExitCode())
	case err != nil:
		b.t.Fatalf("%s: %v", line, err)
	}
	if out = strings.TrimPrefix(out, "\n"); out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return out
}

var masks = []struct {
	of *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`), "(TIME)"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d`), "(DATE)"},
	{regexp.MustCompile(`\b[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}\b`), "(REFERENCE..)"},
	{regexp.MustCompile(`undone in \S+?([:,])`), "undone in (TIME)$1"},
	{regexp.MustCompile(`pid \d+, up \d+s`), "pid N, up Ns"},
	{regexp.MustCompile(`\tConnection timed out`), "\tIO::Socket::INET: connect: timeout"}, // swaks of Debian 13
	{regexp.MustCompile(`(  xdp  .*(?:native|generic)|  nft  .*bans?);.*`), "$1; (COUNTERS)"},
	{regexp.MustCompile(`\d+ since`), "N since"},
	{regexp.MustCompile(`aborted \d+`), "aborted N"},
	{regexp.MustCompile(` +[0-9.]+ ms`), " N ms"},
	{regexp.MustCompile(`\d+ (?:KiB|B) of`), "N KiB of"},
	{regexp.MustCompile(`(pass|reject|drop) +0  +[0-9.]+ +`), "$1 0 N "},
	{regexp.MustCompile(`(?m)((?:pass|reject|drop) +0 +)[0-9.]+$`), "${1}0"},
	{regexp.MustCompile(`oldest (?:none|\(TIME\))`), "oldest (WHEN)"}, // records are written behind
	{regexp.MustCompile(`(?m)^geo       \S.*`), "geo       (DATABASE)"},
	{regexp.MustCompile(`(?m)^provider  .*\n`), ""},           // as far as it has been looked up, in a world without the provider
	{regexp.MustCompile(`country  .*`), "country  (COUNTRY)"}, // the database's own, which is made anew each month
	{regexp.MustCompile(`"(ms|pid)":[0-9.]+`), `"$1":N`},
}

// mask replaces what differs from run to run.
func mask(text string) string {
	for _, m := range masks {
		text = m.of.ReplaceAllString(text, m.by)
	}
	return text
}

// diff shows the lines that differ, in the order of got.
func diff(want, got string) string {
	var b strings.Builder
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wants), len(gots)) {
		w, g := at(wants, i), at(gots, i)
		if w != g {
			fmt.Fprintf(&b, "line %d\n  want %q\n  got  %q\n", i+1, w, g)
		}
	}
	return b.String()
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

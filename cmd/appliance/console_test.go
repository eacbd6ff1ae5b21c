package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The tests of the console start this very program on a terminal of their own;
// it must come before the flags are read.
func init() {
	if os.Getenv("WEIR_TEST_CONSOLE") == "" {
		return
	}
	os.Args = append([]string{os.Getenv("WEIR_TEST_CONSOLE")}, os.Args[1:]...)
	main()
}

// terminal is a pseudo-terminal with a console at its other end.
type terminal struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	said bytes.Buffer // since the last expect
	all  bytes.Buffer
	hung chan struct{} // closed to end the reader
	gone chan struct{} // closed when it has ended
}

// startTerminal runs the program, called name, with TERM and a size.
func startTerminal(t *testing.T, name, termName string, size pty.Winsize, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "WEIR_TEST_CONSOLE="+name, "TERM="+termName, "WEIR_RUN_DIR="+t.TempDir())
	f, err := pty.StartWithSize(cmd, &size)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, pty: f, cmd: cmd, hung: make(chan struct{}), gone: make(chan struct{})}
	fd := int32(f.Fd())
	go func() {
		defer close(x.gone)
		b := make([]byte, 4096)
		for {
			// A blocking read would keep the terminal open when it is closed.
			ready := []unix.PollFd{{Fd: fd, Events: unix.POLLIN}}
			if n, _ := unix.Poll(ready, 20); n <= 0 {
				select {
				case <-x.hung:
					return
				default:
					continue
				}
			}
			n, err := f.Read(b)
			x.mu.Lock()
			x.said.Write(b[:n])
			x.all.Write(b[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		x.hangUp()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the terminal had %q", x.whole())
		}
	})
	return x
}

// whole is all that was said.
func (x *terminal) whole() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all.String()
}

// hangUp closes the terminal, once.
func (x *terminal) hangUp() {
	select {
	case <-x.hung:
	default:
		close(x.hung)
		<-x.gone
		x.pty.Close()
	}
}

func (x *terminal) types(s string) {
	x.t.Helper()
	if _, err := x.pty.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until what was said since the last time matches, and returns it
// up to there.
func (x *terminal) expect(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		x.mu.Lock()
		if at := re.FindIndex(x.said.Bytes()); at != nil {
			s := string(x.said.Next(at[1]))
			x.mu.Unlock()
			return s
		}
		x.mu.Unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.t.Fatalf("waited for %s, had %q", pattern, x.said.String())
	return ""
}

// end waits for the end of the program and returns its exit status.
func (x *terminal) end() int {
	x.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); x.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		x.t.Fatal("the console does not end")
	}
	return x.cmd.ProcessState.ExitCode()
}

var vt = pty.Winsize{Rows: 24, Cols: 80}

// R-MC-06: completion and help come from the commands, lines can be edited and
// called again, and the exit status is that of the last command.
func TestConsole(t *testing.T) {
	x := startTerminal(t, "-weir", "vt220", vt)
	x.expect(`exit to leave\.\r\n`)
	x.expect(`weir> `)
	x.types("vers\t\r")
	x.expect(`weir \S+ .*built with go`)
	x.expect(`weir> `)
	x.types("fire\t?")
	if got := x.expect(`on +\S[^\n]*\n`); !strings.Contains(got, "off ") {
		t.Errorf("? shows %q", got)
	}
	x.types("\x15vversion\x01\x1b[3~\r") // deleted, typed wrongly, Home, Delete
	x.expect(`built with go`)
	x.expect(`weir> `)
	x.types("\x1b[A\r") // the last one again
	x.expect(`built with go`)
	x.types("status\r")
	x.expect(`nothing is running in `)
	x.expect(`weir> `)
	x.types("\x04")
	if code := x.end(); code != 3 {
		t.Errorf("exit status %d, want that of weir status, 3", code)
	}
	if strings.Contains(x.whole(), "\x1b[3") || regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(x.whole()) {
		t.Errorf("there are colours in %q", x.whole())
	}
}

// R-MC-06: there is no way out but the end: no shell, no file, no role.
func TestConsoleIsNoShell(t *testing.T) {
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("top-secret-words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		"run", "guard", "mail", "manual /tmp", "console", "sh", "/bin/sh", "!sh", "version; sh", "version | sh", "version > " + secret, "`id`", "$(id)",
		"check -c " + secret, "check --config=" + secret, "status --run-dir /tmp", "--run-dir=/tmp status", "replay " + secret, "setup --seed " + secret,
		"help ../../etc/passwd", "completion bash",
	}
	x := startTerminal(t, "-weir", "vt220", pty.Winsize{Rows: 1000, Cols: 80}) // no pager
	for _, line := range lines {
		x.expect(`weir> `)
		x.types(line + "\r")
	}
	x.expect(`weir> `)
	x.types("\x1a\x1c") // Ctrl-Z, Ctrl-\
	x.types("version\r")
	x.expect("built with go")
	x.types("exit\r")
	x.end()
	if s := x.whole(); strings.Contains(s, "top-secret") || strings.Contains(s, "uid=") {
		t.Errorf("that came out: %q", s)
	}
	for _, line := range lines {
		cmd := exec.Command(os.Args[0], "-c", line)
		cmd.Env = append(os.Environ(), "WEIR_TEST_CONSOLE=weir", "WEIR_RUN_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.HasPrefix(line, "help") || strings.Contains(string(out), "top-secret") || strings.Contains(string(out), "uid=") {
			t.Errorf("-c %q: %v, %s", line, err, out)
		}
	}
}

// What comes over a line that is not a person: control characters, a line
// without end, Ctrl-C in the middle, end of input; the next command works.
func TestConsoleHostileInput(t *testing.T) {
	for name, hostile := range map[string]string{
		"controls":   "\x00\x01\x02\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x16\x17\x18\x19\x1d\x1e\x1f\x7f",
		"escapes":    "\x1b\x1b[\x1b[999999999999C\x1b[?1;2c\x1bP\x1b\\\x1b]0;x\x07\x1bO\x1b[A\x1b[B\x1b[D\x1b[H",
		"not UTF-8":  "\xff\xfe\xc3\x28\xf0\x9f",
		"long":       strings.Repeat("x", 10_000),
		"long words": "ban " + strings.Repeat("'a b' ", 1000),
		"wide":       strings.Repeat("日本", 100) + "é́",
		"Ctrl-C":     "ban 192.0.2.1 --why 'half of",
		"TABs":       strings.Repeat("\t", 50) + "??",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := startTerminal(t, "-weir", "vt220", vt)
			x.expect(`weir> `)
			go x.pty.WriteString(hostile + "\x03") // it may be more than the terminal takes at once
			x.expect(`weir> $`)
			go x.pty.WriteString("\x03version\r")
			x.expect(`built with go`)
			x.types("exit\r")
			x.end()
		})
	}
}

// A terminal of no size, as on a serial line, and a dumb one: nothing waits for
// a key, and no escape sequence is sent to one that knows none.
func TestConsoleOnPoorTerminals(t *testing.T) {
	for _, tc := range []struct {
		term string
		size pty.Winsize
	}{{"vt220", pty.Winsize{}}, {"dumb", pty.Winsize{Rows: 1000, Cols: 80}}, {"", pty.Winsize{}}} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			x := startTerminal(t, "-weir", tc.term, tc.size)
			x.expect(`weir> `)
			x.types("help\r")
			x.expect(`weir> `)
			x.types("help test\r")
			if s := x.expect(`weir> $`); strings.Contains(s, "--more--") {
				t.Errorf("it waits on %q", s)
			}
			x.types("\x04")
			x.end()
			if tc.term != "vt220" && strings.Contains(x.whole(), "\x1b") {
				t.Errorf("escape sequences on such a terminal: %q", x.whole())
			}
		})
	}
}

// The pager shows a screen at a time; q, Ctrl-C and the end of the line end it.
func TestConsolePager(t *testing.T) {
	for name, key := range map[string]string{"q": "q", "Ctrl-C": "\x03", "Ctrl-D": "\x04"} {
		t.Run(name, func(t *testing.T) {
			x := startTerminal(t, "-weir", "vt220", pty.Winsize{Rows: 10, Cols: 60})
			x.expect(`weir> `)
			x.types("help\r")
			first := x.expect(`--more--`)
			if n := strings.Count(first, "\n"); n > 11 {
				t.Errorf("%d lines on a screen of 10", n)
			}
			x.types("\rz ") // a line, no answer, a screen
			x.expect(`--more--`)
			x.expect(`--more--`)
			x.types(key)
			x.expect(`weir> `)
			x.types("version\r")
			x.expect(`built with go`)
			x.types("exit\r")
			x.end()
		})
	}
	t.Run("hang up", func(t *testing.T) {
		x := startTerminal(t, "-weir", "vt220", pty.Winsize{Rows: 10, Cols: 60})
		x.expect(`weir> `)
		x.types("help\r")
		x.expect(`--more--`)
		x.hangUp()
		if code := x.end(); code == 0 {
			t.Errorf("a line that was cut ends well: %d", code)
		}
	})
}

// SIGTERM ends a console that waits at its prompt, and one whose command runs.
func TestConsoleEndsAtSIGTERM(t *testing.T) {
	x := startTerminal(t, "-weir", "vt220", vt)
	x.expect(`weir> `)
	x.cmd.Process.Signal(syscall.SIGTERM)
	x.end()
}

// Nothing of the console needs a terminal.
func TestConsoleOfAScript(t *testing.T) {
	cmd := exec.Command(os.Args[0], "console")
	cmd.Env = append(os.Environ(), "WEIR_TEST_CONSOLE=weir", "WEIR_RUN_DIR="+t.TempDir())
	cmd.Stdin = strings.NewReader("version\n" + strings.Repeat("y", 9000) + "\nbans --nonsense\n")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "built with go") || !strings.Contains(string(out), "unknown flag") || strings.Contains(string(out), "weir> ") {
		t.Errorf("got %v, %s", err, out)
	}
}

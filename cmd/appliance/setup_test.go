package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailweir/config"
)

// greeter is a mail server that only greets.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 office\r\n"))
			c.Close()
		}
	}()
	return l.Addr().String()
}

// setup runs weir setup with input, and returns what it says and the file.
func runSetup(t *testing.T, path, input string, args ...string) (said, file string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"setup", "-c", path}, args...)...)
	cmd.Env = append(os.Environ(), "WEIR_TEST_CONSOLE=weir")
	cmd.Stdin = strings.NewReader(input)
	out, _ := cmd.CombinedOutput()
	text, _ := os.ReadFile(path)
	return string(out), string(text), cmd.ProcessState.ExitCode()
}

// R-MC-06: at most six questions, each with a check; the answers make a file
// that can be used, and asked again change only what was answered otherwise.
func TestSetup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	office := greeter(t)
	said, file, code := runSetup(t, path, strings.Join([]string{
		"nonsense", "localhost.localdomain.example.net", "", // no name; one that is in no DNS, insisted on
		"-", "example.com",
		"127.0.0.1:1", office, // one that does not answer, another
		"192.0.2.0/33", "192.0.2.0/24 2001:db8::/48",
		"http://x", "udp://127.0.0.1:514",
		"perhaps", "",
	}, "\n")+"\n")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	for _, want := range []string{"6 questions; ", "not fully qualified", "no address in the DNS yet", "is no domain", "does not answer", "write yes or no", "written: " + path} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing is said of %q", want)
		}
	}
	_, cfg, problems := config.Parse(path, []byte(file))
	if problems.Bad() || cfg.Hostname != "localhost.localdomain.example.net" || !cfg.Observe || len(cfg.Domains) != 1 || cfg.Domains[0].Name != "example.com" ||
		len(cfg.Backends) != 1 || cfg.Backends[0].URL != "smtp://"+office || len(cfg.Firewall.NeverBan) != 2 || len(cfg.Syslog) != 1 {
		t.Errorf("%v from %s\nsaid %s", problems, file, said)
	}
	mine := strings.Replace(file, "[backend.first]", "# mine\n[backend.first]", 1)
	if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	said, again, code := runSetup(t, path, "\n\n\n\n\n-\nno\n")
	want := strings.Replace(mine, "observe = true", "observe = false", 1)
	want = want[:strings.Index(want, "\n[syslog.collector]")]
	if strings.TrimSpace(again) != strings.TrimSpace(want) || code != 0 {
		t.Errorf("asked again: exit %d, got\n%s\nwant\n%s\nsaid %s", code, again, want, said)
	}
}

// A file with mistakes is no file to go on from: it says what is wrong, asks
// nothing, and leaves every byte.
func TestSetupOfABrokenFile(t *testing.T) {
	for broken, want := range map[string]string{
		"hostname = \"mx1.example.net\nobserve = true\n":  "weir.toml:1:",
		"hostname = \"mx1.example.net\"\nobserve = 3\n":   "weir.toml:2:11: 3 is not true or false",
		"hostname = \"mx1.example.net\"\nobserv = true\n": "weir.toml:2:1: unknown key",
		"": "weir.toml:1:1: hostname is missing",
	} {
		path := filepath.Join(t.TempDir(), "weir.toml")
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		said, file, code := runSetup(t, path, "mx2.example.net\n\nexample.com\n127.0.0.1:1\n\n-\n-\nno\n")
		if code != 1 || file != broken || !strings.Contains(said, want) || strings.Contains(said, "1/6") {
			t.Errorf("%q: exit %d, said %s, the file is %q", broken, code, said, file)
		}
	}
}

// Asked anew, answers make a whole file in the place of one with mistakes, which
// is kept.
func TestSetupAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	const broken = "hostname = \"mx1.example.net\"\nobserv = true\n"
	if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	said, file, code := runSetup(t, path, "mx2.example.net\n\nexample.com\n127.0.0.1:1\n\n-\n-\nno\n", "--anew")
	kept, _ := os.ReadFile(path + ".before")
	if _, cfg, problems := config.Parse(path, []byte(file)); problems.Bad() || cfg.Hostname != "mx2.example.net" || string(kept) != broken || code != 0 {
		t.Errorf("exit %d, said %s, the file is %q, kept is %q", code, said, file, kept)
	}
}

// Who leaves before the end leaves everything as it was.
func TestSetupIsLeft(t *testing.T) {
	for name, input := range map[string]string{
		"at once": "", "half": "mx1.example.net\n\nexample.com\n", "without end": strings.Repeat("x", 2<<20), "controls": "\x00\x1b[2J\n\xff\n",
	} {
		path := filepath.Join(t.TempDir(), "weir.toml")
		said, file, code := runSetup(t, path, input)
		if code != 1 || file != "" || !strings.Contains(said, "nothing is written") || strings.Contains(said, "\x1b") {
			t.Errorf("%s: exit %d, file %q, said %.300q", name, code, file, said)
		}
	}
	x := startTerminal(t, "weir", "vt220", vt, "setup", "-c", filepath.Join(t.TempDir(), "weir.toml"))
	x.expect(`1/6 Name`)
	x.types("\x03")
	x.expect(`nothing is written`)
	if code := x.end(); code != 1 {
		t.Errorf("Ctrl-C ends with %d", code)
	}
}

// In the console Ctrl-C leaves the questions, and the next line is a command.
func TestSetupOnTheConsole(t *testing.T) {
	x := startTerminal(t, "-weir", "vt220", vt)
	x.expect(`weir> `)
	x.types("setup\r")
	x.expect(`1/6 Name`)
	x.types("\x03")
	x.expect(`weir> `)
	x.types("version\r")
	x.expect(`built with go`)
	x.types("exit\r")
	x.end()
}

// A seed is a whole file: taken where there is none, twice with no harm, never
// over another one, and never when it is bad.
func TestSeed(t *testing.T) {
	dir := t.TempDir()
	path, seed := filepath.Join(dir, "etc", "weir.toml"), filepath.Join(dir, "seed")
	text := "hostname = \"mx1.example.net\"\n[backend.b]\nurl = \"smtp://192.0.2.10\"\n[domain.\"example.com\"]\nbackends = [\"b\"]\n"
	if err := os.WriteFile(seed, []byte(text+"nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, file, code := runSetup(t, path, "", "--seed", seed)
	if code != 1 || file != "" || !strings.Contains(said, "weir.toml:6:1: unknown key") {
		t.Errorf("a bad seed: exit %d, said %s", code, said)
	}
	for range 2 {
		if said, file, code = runSetup(t, path, text, "--seed", "-"); code != 0 || file != text {
			t.Errorf("a good seed: exit %d, said %s, wrote %q", code, said, file)
		}
	}
	said, file, code = runSetup(t, path, text+"# other\n", "--seed", "-")
	if code != 1 || file != text || !strings.Contains(said, "it stays") {
		t.Errorf("a seed over another file: exit %d, said %s, wrote %q", code, said, file)
	}
}

package bpf_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommittedIsFresh compiles filter.c again, in another directory, and
// compares byte for byte.
func TestCommittedIsFresh(t *testing.T) {
	if out, err := exec.Command("clang-19", "--version").Output(); err != nil || !strings.Contains(string(out), "19.1.7") {
		t.Skipf("needs clang 19.1.7 as clang-19 (Debian: clang-19, llvm-19, libbpf-dev, linux-libc-dev); have %q", firstLine(out))
	}
	dir := t.TempDir()
	for _, name := range []string{"filter.c", "packet.h", "prefixes.h", "bans.h", "geo.h", "limits.h", "samples.h", "include"} {
		if out, err := exec.Command("cp", "-r", name, dir).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v: %s", name, err, out)
		}
	}
	source, err := os.ReadFile("bpf.go")
	if err != nil {
		t.Fatal(err)
	}
	args := regexp.MustCompile(`(?m)^//go:generate go (tool bpf2go .*)$`).FindSubmatch(source)
	if args == nil {
		t.Fatal("bpf.go has no go:generate line")
	}
	tool, err := exec.Command("go", "tool", "-n", "bpf2go").Output()
	if err != nil {
		t.Fatalf("find bpf2go: %v", err)
	}
	cmd := exec.Command(strings.TrimSpace(string(tool)), strings.Fields(string(args[1]))[2:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPACKAGE=bpf")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	for _, name := range []string{"filter_bpfel.go", "filter_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, fresh) {
			t.Errorf("%s is not what filter.c compiles to: run go generate ./bpf", name)
		}
	}
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

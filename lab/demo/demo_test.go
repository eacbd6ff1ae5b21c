package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailweir/lab"
)

// TestAllScenesComeTrue plays the demo as make demo does.
func TestAllScenesComeTrue(t *testing.T) {
	needRoot(t)
	t.Parallel() // both wait for the kernel to drop more than they work
	var out bytes.Buffer
	if code := play(t.Context(), &stage{out: &out}, "", "auto"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out.String())
	}
	t.Logf("\n%s", out.String())
}

// TestDemoFailsWithoutTheDrop plays it with a packet program whose drop action
// was patched out: everything else of the product is in place, and the demo must
// see that nothing is dropped. A demo that cannot fail shows nothing.
func TestDemoFailsWithoutTheDrop(t *testing.T) {
	needRoot(t)
	t.Parallel()
	var out bytes.Buffer
	code := play(t.Context(), &stage{out: &out}, harmlessWeir(t), "xdp")
	if code == 0 {
		t.Fatalf("the demo came true though nothing was dropped:\n%s", out.String())
	}
	if want := "the attacker is not dropped"; !strings.Contains(out.String(), want) {
		t.Errorf("it failed, but not because %s:\n%s", want, out.String())
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: make test runs as root")
	}
}

// harmlessWeir builds weir with a packet program that passes what it should
// drop. The tree is not touched: the compiler is shown another object in the
// place of the committed one.
func harmlessWeir(t *testing.T) string {
	t.Helper()
	bpf, err := filepath.Abs("../../bpf")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(bpf, "filter.c"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(source, []byte("XDP_DROP")) {
		t.Fatal("bpf/filter.c has no XDP_DROP to patch out")
	}
	dir := t.TempDir()
	patched, object := filepath.Join(dir, "filter.c"), filepath.Join(dir, "filter.o")
	write(t, patched, bytes.ReplaceAll(source, []byte("XDP_DROP"), []byte("XDP_PASS")))
	run(t, "clang-19", "-target", "bpfel", "-std=gnu11", "-O2", "-mcpu=v3", "-g", "-Wno-unused-parameter",
		"-I"+filepath.Join(bpf, "include"), "-I"+bpf, "-c", patched, "-o", object)

	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(bpf, "filter_bpfel.o"): object,
	}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	write(t, name, overlay)
	weir := filepath.Join(dir, "weir")
	if err := lab.BuildWeir(weir, "-overlay", name); err != nil {
		t.Fatal(err)
	}
	return weir
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

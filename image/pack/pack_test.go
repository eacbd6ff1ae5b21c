package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestPatchGRUB holds the places that boot.S and diskboot.S name.
func TestPatchGRUB(t *testing.T) {
	boot, core := patchGRUB(make([]byte, 512), bytes.Repeat([]byte{1}, 1000))
	if len(core) != 1024 {
		t.Fatalf("core.img has %d bytes, and not whole sectors", len(core))
	}
	if at := binary.LittleEndian.Uint64(boot[0x5c:]); at != 2048 {
		t.Errorf("core.img is looked for at sector %d", at)
	}
	if at, n := binary.LittleEndian.Uint64(core[0x1f4:]), binary.LittleEndian.Uint16(core[0x1fc:]); at != 2049 || n != 1 {
		t.Errorf("the rest is looked for at %d, %d sectors", at, n)
	}
}

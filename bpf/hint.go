package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The hint of a table: hintLog is the logarithm of its bits for a bucket, and
// pieceLog that of the bits of a piece. hintPieces is how many a table may have.
const (
	hintLog    = 6
	pieceLog   = 24
	hintPieces = 64
)

// piece is a part of a hint: packets look it up in a map of its own.
type piece struct {
	m    *ebpf.Map
	mem  []byte
	word []uint64
}

func makePiece() (p piece, err error) {
	p.m, err = ebpf.NewMap(&ebpf.MapSpec{Name: "mailweir_hint", Type: ebpf.Array, KeySize: 4, ValueSize: 1 << pieceLog / 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return p, err
	}
	if p.mem, err = Memory(p.m); err != nil {
		return p, errors.Join(err, p.m.Close())
	}
	p.word = words(p.mem)
	return p, nil
}

// pieces is how many the hint of a table of 2^log2 buckets has.
func pieces(log2 int) int { return max(1, 1<<log2<<hintLog>>pieceLog) }

// HintIn puts the hint into the map that packets find it in, for a table at
// place: before packets turn to the table. What a table that was opened had
// there is replaced, piece by piece; either serves.
func (b *Bans) HintIn(outer *ebpf.Map, place uint32) error {
	for i, p := range b.hint {
		if err := outer.Put(place*hintPieces+uint32(i), p.m); err != nil {
			return fmt.Errorf("put the hint of a table of bans in its place: %w", err)
		}
	}
	return nil
}

// HintOut takes the hint of the table at place out: after packets turned to
// another.
func HintOut(outer *ebpf.Map, place uint32) error {
	for i := range min(hintPieces, pieces(int(place/2))) {
		if err := TakeOut(outer, place*hintPieces+uint32(i)); err != nil {
			return fmt.Errorf("take the hint of an old table of bans out: %w", err)
		}
	}
	return nil
}

// TakeOut takes a map out of a map, if there is one. It looks first: older
// kernels wait for packets also when they delete nothing.
func TakeOut(outer *ebpf.Map, place uint32) error {
	var id ebpf.MapID // what the kernel tells of a map in a map
	err := outer.Lookup(place, &id)
	if err == nil {
		err = outer.Delete(place)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// hinted is the bit of the hint for h, and its word.
func (b *Bans) hinted(h home) (word *uint64, bit uint64) {
	n := uint(h.first)<<hintLog | h.tag
	return &b.hint[n>>pieceLog].word[n%(1<<pieceLog)/64], 1 << (n % 64)
}

package greylist

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A snapshot outlives a restart: a sender that was told to come back in ten
// minutes is not told so again.
//
//	magic | (kind key first last)… | end | CRC-32C of all before it
//
// Integers are little-endian.
const snapshotMagic = "weir-greylist 1\n"

const (
	kindEnd = iota
	kindWaiting
	kindPassed
)

const entrySize = 1 + 16 + 4 + 4

// ErrDamaged says that a snapshot is not what was written.
var ErrDamaged = errors.New("the snapshot of the greylist is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Dirty says whether anything was put since the last Save.
func (l *Local) Dirty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dirty
}

// Save writes everything.
func (l *Local) Save(out io.Writer) error {
	b := append(make([]byte, 0, 1<<16), snapshotMagic...)
	l.mu.Lock()
	l.dirty = false
	for kind, g := range map[byte]*generations{kindWaiting: &l.waiting, kindPassed: &l.passed} {
		g.each(func(k Key, m span) {
			b = append(append(b, kind), k[:]...)
			b = binary.LittleEndian.AppendUint32(b, m.first)
			b = binary.LittleEndian.AppendUint32(b, m.last)
		})
	}
	l.mu.Unlock()
	b = append(b, kindEnd)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := out.Write(b); err != nil {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
		return fmt.Errorf("write the snapshot of the greylist: %w", err)
	}
	return nil
}

// Load adds what Save wrote. With an error nothing was added.
func (l *Local) Load(in io.Reader) error {
	b, err := io.ReadAll(bufio.NewReader(in))
	if err != nil {
		return fmt.Errorf("read the snapshot of the greylist: %w", err)
	}
	body, ok := bytes.CutPrefix(b, []byte(snapshotMagic))
	if !ok || len(body) < 5 || binary.LittleEndian.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return ErrDamaged
	}
	if body = body[:len(body)-5]; len(body)%entrySize != 0 {
		return ErrDamaged
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; len(body) > 0; body = body[entrySize:] {
		g := &l.waiting
		if body[0] == kindPassed {
			g = &l.passed
		}
		m := span{binary.LittleEndian.Uint32(body[17:]), binary.LittleEndian.Uint32(body[21:])}
		g.put(Key(body[1:17]), m)
	}
	return nil
}

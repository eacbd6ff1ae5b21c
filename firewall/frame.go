package firewall

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
)

// The ledger's files are sequences of frames of 32 bytes, little endian. A
// frame at 0 of kind header, in a snapshot one of kind end as the last.
//
//	0      kind
//	1      prefix length            note: bytes of text in this frame
//	2      reason                   note: 1 when it is the last of its text
//	3      step
//	4-11   IPv4 address (4), or the first half of an IPv6 address;
//	       header: generation; end: number of frames before; note: id (4)
//	12-15  since, Unix seconds      note: text from 8 to 27
//	16-19  until
//	20-27  ref, or id of a note
//	28-31  CRC-32C of what is before
//
// An IPv6 prefix longer than /64 is preceded by a frame of kind low with the
// second half of its address.
const (
	frameSize   = 32
	frameBody   = 28
	noteInFrame = 20
)

const (
	kindHeader = 'H'
	kindEnd    = 'E'
	kindNote   = 'N'
	kindLow    = 'w'
	kindBan4   = '4'
	kindBan6   = '6'
	kindLift4  = 'l'
	kindLift6  = 'm'
)

// formatVersion stands in the length byte of a header.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged")

// seal completes a frame with its checksum and appends it.
func seal(b []byte, f *[frameSize]byte) []byte {
	binary.LittleEndian.PutUint32(f[frameBody:], crc32.Checksum(f[:frameBody], castagnoli))
	return append(b, f[:]...)
}

func sound(f []byte) bool {
	return len(f) == frameSize &&
		binary.LittleEndian.Uint32(f[frameBody:]) == crc32.Checksum(f[:frameBody], castagnoli)
}

func appendHeader(b []byte, generation uint64) []byte {
	f := [frameSize]byte{0: kindHeader, 1: formatVersion}
	binary.LittleEndian.PutUint64(f[4:], generation)
	copy(f[12:], "weir ledger")
	return seal(b, &f)
}

func appendEnd(b []byte, frames uint64) []byte {
	f := [frameSize]byte{0: kindEnd}
	binary.LittleEndian.PutUint64(f[4:], frames)
	return seal(b, &f)
}

func appendBan(b []byte, r record) []byte {
	f := [frameSize]byte{0: kindBan6, 1: uint8(r.prefix.Bits()), 2: byte(r.reason), 3: r.step}
	if r.prefix.Addr().Is4() {
		f[0] = kindBan4
	}
	binary.LittleEndian.PutUint32(f[12:], r.since)
	binary.LittleEndian.PutUint32(f[16:], r.until)
	binary.LittleEndian.PutUint64(f[20:], r.mark)
	return sealWithAddress(b, &f, r.prefix)
}

func appendLift(b []byte, p netip.Prefix) []byte {
	f := [frameSize]byte{0: kindLift6, 1: uint8(p.Bits())}
	if p.Addr().Is4() {
		f[0] = kindLift4
	}
	return sealWithAddress(b, &f, p)
}

func sealWithAddress(b []byte, f *[frameSize]byte, p netip.Prefix) []byte {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		copy(f[4:], a[:])
		return seal(b, f)
	}
	a := p.Addr().As16()
	copy(f[4:], a[:8])
	if p.Bits() > 64 {
		low := [frameSize]byte{0: kindLow}
		copy(low[4:], a[8:])
		b = seal(b, &low)
	}
	return seal(b, f)
}

func appendNote(b []byte, id uint32, text string) []byte {
	for {
		piece := text[:min(len(text), noteInFrame)]
		text = text[len(piece):]
		f := [frameSize]byte{0: kindNote, 1: uint8(len(piece))}
		if text == "" {
			f[2] = 1
		}
		binary.LittleEndian.PutUint32(f[4:], id)
		copy(f[8:], piece)
		b = seal(b, &f)
		if text == "" {
			return b
		}
	}
}

// change is what one frame, or the last of several, says.
type change struct {
	kind byte
	ban  record // kindBan4, kindBan6; of a lift only its prefix
	id   uint32 // of a note
	text string
	num  uint64 // generation of a header, count of an end
}

// frameReader puts frames together to changes. It keeps what a frame says
// about the next one.
type frameReader struct {
	low    [8]byte // second half of the address in the next frame
	hasLow bool
	text   []byte // of a note, so far
}

// read takes one frame. ok is false while more frames are needed. errDamaged
// means that this frame and what follows cannot be believed.
func (d *frameReader) read(f []byte) (c change, ok bool, err error) {
	if !sound(f) {
		return change{}, false, errDamaged
	}
	c.kind = f[0]
	switch c.kind {
	case kindHeader:
		c.num = binary.LittleEndian.Uint64(f[4:])
		if f[1] != formatVersion {
			return c, false, errors.New("written by a later release")
		}
		return c, true, nil
	case kindEnd:
		c.num = binary.LittleEndian.Uint64(f[4:])
		return c, true, nil
	case kindNote:
		return d.readNote(f, c)
	case kindLow:
		d.low, d.hasLow = [8]byte(f[4:12]), true
		return c, false, nil
	}
	return d.readBan(f, c)
}

func (d *frameReader) readNote(f []byte, c change) (change, bool, error) {
	if f[1] > noteInFrame || len(d.text) > MaxWhy {
		return c, false, errDamaged
	}
	d.text = append(d.text, f[8:8+f[1]]...)
	if f[2] == 0 {
		return c, false, nil
	}
	c.id, c.text = binary.LittleEndian.Uint32(f[4:]), string(d.text)
	d.text = d.text[:0]
	return c, true, nil
}

func (d *frameReader) readBan(f []byte, c change) (change, bool, error) {
	p, err := d.prefix(f)
	if err != nil {
		return c, false, err
	}
	c.ban.prefix = p
	switch c.kind {
	case kindLift4, kindLift6:
		return c, true, nil
	}
	c.ban.reason, c.ban.step = Reason(f[2]), f[3]
	c.ban.since = binary.LittleEndian.Uint32(f[12:])
	c.ban.until = binary.LittleEndian.Uint32(f[16:])
	c.ban.mark = binary.LittleEndian.Uint64(f[20:])
	if !c.ban.reason.Valid() {
		return c, false, errDamaged
	}
	return c, true, nil
}

func (d *frameReader) prefix(f []byte) (netip.Prefix, error) {
	var addr netip.Addr
	switch f[0] {
	case kindBan4, kindLift4:
		addr = netip.AddrFrom4([4]byte(f[4:8]))
	case kindBan6, kindLift6:
		var a [16]byte
		copy(a[:], f[4:12])
		if f[1] > 64 {
			if !d.hasLow {
				return netip.Prefix{}, errDamaged
			}
			copy(a[8:], d.low[:])
		}
		addr = netip.AddrFrom16(a)
	default:
		return netip.Prefix{}, errDamaged
	}
	d.hasLow = false
	p := netip.PrefixFrom(addr, int(f[1]))
	if !p.IsValid() || Canonical(p) != p {
		return netip.Prefix{}, errDamaged
	}
	return p, nil
}

package disk

import (
	"fmt"
	"hash/crc32"
	"strconv"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendEntry appends a line that tells by itself whether it is whole: the
// CRC-32C of the body in eight hexadecimal digits, the body (its parts, one
// behind the other), a line feed. The body has none.
func AppendEntry(b []byte, parts ...[]byte) []byte {
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	b = fmt.Appendf(b, "%08x", sum)
	for _, p := range parts {
		b = append(b, p...)
	}
	return append(b, '\n')
}

// ParseEntry is the body of a line that AppendEntry wrote, given without its
// line feed; false where a crash tore it.
func ParseEntry(line []byte) ([]byte, bool) {
	if len(line) < 8 {
		return nil, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[8:], castagnoli) {
		return nil, false
	}
	return line[8:], true
}

// Package ref makes and reads the short ids that a refused sender sees, such
// as K7QM-2V9D-4XTR.
//
// A ref has twelve characters of Crockford's base 32 (digits and capitals
// without I, L, O, U): eleven carry 55 random bits, the twelfth is a check
// character (the number modulo 31), so that a ref read out over the telephone
// with one wrong or two swapped characters is recognised as such.
package ref

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"
)

// Ref is a ref as a number; it holds 55 random bits. The zero Ref means none.
type Ref uint64

const (
	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	digits   = 11
	mask     = 1<<(5*digits) - 1
)

// ErrMalformed says that a text is no ref: a character is wrong or missing.
var ErrMalformed = errors.New("not a ref: want twelve letters and digits like K7QM-2V9D-4XTR, check them once more")

// New returns a fresh random ref; it never returns zero.
func New() Ref {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails, see crypto/rand
		if r := Ref(binary.LittleEndian.Uint64(b[:]) & mask); r != 0 {
			return r
		}
	}
}

// String writes r as XXXX-XXXX-XXXX; the zero Ref is "".
func (r Ref) String() string {
	if r == 0 {
		return ""
	}
	var b [digits + 1]byte
	b[digits] = alphabet[r%31]
	for i, v := digits-1, r; i >= 0; i, v = i-1, v>>5 {
		b[i] = alphabet[v&31]
	}
	return string(b[:4]) + "-" + string(b[4:8]) + "-" + string(b[8:])
}

// spelling is made once: a replay reads two refs a line.
var spelling = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1")

// Parse reads a ref as people write it: any case, with or without hyphens and
// spaces, with O for 0 and I or L for 1.
func Parse(s string) (Ref, error) {
	s = spelling.Replace(strings.ToUpper(s))
	if len(s) != digits+1 {
		return 0, ErrMalformed
	}
	var r Ref
	for i := range digits {
		v := strings.IndexByte(alphabet, s[i])
		if v < 0 {
			return 0, ErrMalformed
		}
		r = r<<5 | Ref(v)
	}
	if r == 0 || s[digits] != alphabet[r%31] {
		return 0, ErrMalformed
	}
	return r, nil
}

// MarshalText writes r as String does.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote; "" is the zero Ref.
func (r *Ref) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*r = 0
		return nil
	}
	v, err := Parse(string(b))
	if err == nil {
		*r = v
	}
	return err
}

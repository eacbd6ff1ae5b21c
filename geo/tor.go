package geo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tor is the content of tor-geoipdb's two files, compiled.
type tor struct {
	v4    table[uint32]
	v6    table[u128]
	built time.Time
	maker string
}

// table maps keys to countries: code[i] holds from start[i] up to start[i+1].
// Where nothing is known, code is zero.
type table[K comparable] struct {
	start []K
	code  []code
	less  func(a, b K) bool
	next  func(K) (K, bool) // false behind the last key there is
}

// code is a country as its two letters; zero is none.
type code [2]byte

func (c code) String() string {
	if c == (code{}) {
		return ""
	}
	return string(c[:])
}

func newTor() *tor {
	return &tor{
		v4: table[uint32]{
			less: func(a, b uint32) bool { return a < b },
			next: func(k uint32) (uint32, bool) { return k + 1, k+1 != 0 },
		},
		v6: table[u128]{
			less: u128.less,
			next: u128.next,
		},
	}
}

// openTor reads geoip and geoip6. One without the other is a database of half
// the world: no error, since a network without IPv6 may leave it out.
func openTor(files []string) (source, error) {
	t := newTor()
	for i, path := range files {
		b, err := os.ReadFile(path)
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := t.read(b); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	t.v4.compact()
	t.v6.compact()
	return t, nil
}

// read adds the ranges of one file, which must be in order.
func (t *tor) read(b []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(b))
	n, ranges := 0, 0
	for lines.Scan() {
		n++
		line := lines.Text()
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			t.comment(strings.TrimSpace(comment))
			continue
		}
		if line == "" {
			continue
		}
		if err := t.addLine(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		ranges++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if ranges == 0 {
		return errors.New("no ranges in it: fetch the package tor-geoipdb again")
	}
	if b[len(b)-1] != '\n' {
		return fmt.Errorf("line %d is cut off: fetch the package tor-geoipdb again", n)
	}
	return nil
}

// comment takes date and maker from the head of a file.
func (t *tor) comment(s string) {
	if v, ok := strings.CutPrefix(s, "Generated:"); ok {
		if at, err := time.Parse(time.RFC1123, strings.TrimSpace(v)); err == nil {
			t.built = at.UTC()
		}
	}
	for _, key := range []string{"Vendor:", "License:"} {
		if v, ok := strings.CutPrefix(s, key); ok && !strings.Contains(t.maker, strings.TrimSpace(v)) {
			t.maker = strings.TrimPrefix(t.maker+", "+strings.TrimSpace(v), ", ")
		}
	}
}

var errRange = errors.New("want FIRST,LAST,COUNTRY in ascending order: fetch the package tor-geoipdb again")

func (t *tor) addLine(line string) error {
	first, rest, _ := strings.Cut(line, ",")
	last, country, _ := strings.Cut(rest, ",")
	if len(country) != 2 {
		return errRange
	}
	country = canonicalCountry(country)
	c := code{country[0], country[1]}
	if country == "??" {
		c = code{}
	}
	if strings.Contains(first, ":") {
		from, err1 := netip.ParseAddr(first)
		to, err2 := netip.ParseAddr(last)
		if err1 != nil || err2 != nil || !from.Is6() || !to.Is6() {
			return errRange
		}
		return t.v6.add(keyOf6(from), keyOf6(to), c)
	}
	from, err1 := strconv.ParseUint(first, 10, 32)
	to, err2 := strconv.ParseUint(last, 10, 32)
	if err1 != nil || err2 != nil {
		return errRange
	}
	return t.v4.add(uint32(from), uint32(to), c)
}

// add appends a range and, behind it, the open end of the unknown, which the
// next range cuts off or takes the place of.
func (t *table[K]) add(first, last K, c code) error {
	if t.less(last, first) {
		return errRange
	}
	if n := len(t.start); n > 0 {
		switch end := t.start[n-1]; {
		case end == first:
			t.start, t.code = t.start[:n-1], t.code[:n-1]
		case t.less(first, end) || t.code[n-1] != code{}:
			return errRange
		}
	}
	t.put(first, c)
	if after, ok := t.next(last); ok {
		t.put(after, code{})
	}
	return nil
}

// put starts a run of c, unless it goes on already.
func (t *table[K]) put(k K, c code) {
	if n := len(t.code); n > 0 && t.code[n-1] == c && c != (code{}) {
		return
	}
	t.start, t.code = append(t.start, k), append(t.code, c)
}

// compact frees what append allocated too much.
func (t *table[K]) compact() {
	t.start, t.code = slices.Clip(slices.Clone(t.start)), slices.Clip(slices.Clone(t.code))
}

func (t *table[K]) find(k K) code {
	low, high := 0, len(t.start) // start[low-1] <= k < start[high]
	for low < high {
		if mid := int(uint(low+high) / 2); t.less(k, t.start[mid]) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == 0 {
		return code{}
	}
	return t.code[low-1]
}

func (t *tor) lookup(addr netip.Addr, o *Origin) {
	if addr.Is4() {
		o.Country = t.v4.find(keyOf4(addr)).String()
	} else {
		o.Country = t.v6.find(keyOf6(addr)).String()
	}
}

func (t *tor) starts(f family) iter.Seq2[u128, Origin] {
	return func(yield func(u128, Origin) bool) {
		if f == 4 {
			for i, k := range t.v4.start {
				if !yield(u128{lo: uint64(k)}, Origin{Country: t.v4.code[i].String()}) {
					return
				}
			}
			return
		}
		for i, k := range t.v6.start {
			if !yield(k, Origin{Country: t.v6.code[i].String()}) {
				return
			}
		}
	}
}

func (t *tor) info() Info {
	return Info{Type: "tor-geoipdb", Source: t.maker, Built: t.built}
}

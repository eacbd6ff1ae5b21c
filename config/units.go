package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

const day = 24 * time.Hour

var sizeUnits = []struct {
	name string
	size Size
}{{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}

// ParseSize reads 512KiB, 50MiB, 4GiB or a plain number of bytes.
func ParseSize(s string) (Size, error) {
	unit := Size(1)
	digits := strings.TrimSpace(s)
	for _, u := range sizeUnits {
		if before, ok := strings.CutSuffix(digits, u.name); ok {
			unit, digits = u.size, strings.TrimSpace(before)
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return Size(n) * unit, nil
}

// String writes what ParseSize reads.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

var errDuration = errors.New("no duration")

// ParseDuration reads a duration of Go's form, in which days may come first:
// 90s, 48h, 14d, 1d12h.
func ParseDuration(s string) (time.Duration, error) {
	rest := s
	var days time.Duration
	if number, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, errDuration
		}
		days, rest = time.Duration(n)*day, after
	}
	if rest == "" && days > 0 {
		return days, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-days {
		return 0, errDuration
	}
	return days + d, nil
}

// Retention is how long something is kept.
type Retention time.Duration

// Forever is a Retention without an end.
const Forever Retention = math.MaxInt64

// ParseRetention reads a duration, or "forever".
func ParseRetention(s string) (Retention, error) {
	if s == "forever" {
		return Forever, nil
	}
	d, err := ParseDuration(s)
	return Retention(d), err
}

// String writes what ParseRetention reads.
func (r Retention) String() string {
	if r == Forever {
		return "forever"
	}
	return formatDuration(time.Duration(r))
}

// formatDuration writes what ParseDuration reads, as short as it goes.
func formatDuration(d time.Duration) string {
	if d >= 3*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

package guard

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as people do: Go's units and d
// for days, or "forever".
type Duration time.Duration

// Forever is a ban without an end; only the operator may give one.
const Forever = Duration(1<<63 - 1)

// ParseDuration reads a positive duration such as 90m, 2d or 1d12h, or
// "forever".
func ParseDuration(s string) (Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	var days time.Duration
	rest := s
	if n, after, found := strings.Cut(s, "d"); found {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, badDuration(s)
		}
		days, rest = time.Duration(v)*24*time.Hour, after
	}
	d := days
	if rest != "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 {
			return 0, badDuration(s)
		}
		d += more
	}
	if d <= 0 {
		return 0, badDuration(s)
	}
	return Duration(d), nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is no duration: write 90m, 48h, 2d or forever", s)
}

func (d Duration) String() string {
	if d == Forever {
		return "forever"
	}
	return time.Duration(d).String()
}

// MarshalText writes what ParseDuration reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// Time is d as a time.Duration.
func (d Duration) Time() time.Duration { return time.Duration(d) }

package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailweir/control"
	"mailweir/firewall"
)

// maxBanLine bounds one line of a ban text.
const maxBanLine = 4096

// maxBanErrors is how many wrong lines are told one by one.
const maxBanErrors = 100

// banText is the text of `weir ban -`: lines of PREFIX [DURATION] [WHY], empty
// lines, and comments behind #.
type banText struct {
	orders []firewall.Order
	lines  []int // where each order stands
	wrong  []string
	more   int // wrong lines beyond those told
}

// readBanText reads all of it; wrong lines are collected, not returned as err.
func readBanText(r io.Reader) (*banText, error) {
	t := new(banText)
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxBanLine), maxBanLine)
	line := 0
	for sc.Scan() {
		line++
		order, ok, err := parseBanLine(sc.Text())
		if err != nil {
			t.fault(line, err)
		}
		if ok {
			if n := len(t.orders); n == cap(t.orders) { // twice as many: lists have a million lines
				t.orders, t.lines = slices.Grow(t.orders, n+1), slices.Grow(t.lines, n+1)
			}
			t.orders, t.lines = append(t.orders, order), append(t.lines, line)
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		t.fault(line+1, fmt.Errorf("longer than %d bytes: is this a list of prefixes?", maxBanLine))
		return t, nil
	}
	return t, sc.Err()
}

// fill gives each line what it does not say itself.
func (t *banText) fill(rest BanRequest) {
	length, forever := rest.For.order()
	for i := range t.orders {
		o := &t.orders[i]
		if o.For == 0 && !o.Forever {
			o.For, o.Forever = length, forever
		}
		if o.Why == "" {
			o.Why = rest.Why
		}
	}
}

func (t *banText) fault(line int, err error) {
	if len(t.wrong) < maxBanErrors {
		t.wrong = append(t.wrong, fmt.Sprintf("line %d: %v", line, err))
	} else {
		t.more++
	}
}

// parseBanLine reads one line; ok is false when it orders nothing.
func parseBanLine(s string) (o firewall.Order, ok bool, err error) {
	s, _, _ = strings.Cut(s, "#")
	word, rest, _ := cutWord(s)
	if word == "" {
		return o, false, nil
	}
	if o.Prefix, err = ParsePrefix(word); err != nil {
		return o, false, err
	}
	if word, why, _ := cutWord(rest); looksLikeDuration(word) {
		d, err := ParseDuration(word)
		if err != nil {
			return o, false, err
		}
		o.For, o.Forever = d.order()
		rest = why
	}
	o.Why = strings.TrimSpace(rest)
	return o, true, nil
}

// looksLikeDuration tells 48h from the first word of a reason: a reason that
// begins with a digit is more likely a slip than meant.
func looksLikeDuration(word string) bool {
	return word == "forever" || word != "" && (word[0] >= '0' && word[0] <= '9' || word[0] == '-')
}

func (d Duration) order() (length time.Duration, forever bool) {
	if d == Forever {
		return 0, true
	}
	return time.Duration(d), false
}

func cutWord(s string) (word, rest string, found bool) {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimSpace(s[i:]), true
	}
	return s, "", false
}

// ParsePrefix reads an address or a prefix as operators write it. Bits behind
// the prefix are an error: 203.0.113.7/24 may mean the one or the other.
func ParsePrefix(s string) (netip.Prefix, error) {
	bad := func() error {
		return fmt.Errorf("%q is no address or prefix: write 203.0.113.7 or 2001:db8::/64", s)
	}
	var p netip.Prefix
	if strings.Contains(s, "/") {
		var err error
		if p, err = netip.ParsePrefix(s); err != nil {
			return netip.Prefix{}, bad()
		}
	} else {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, bad()
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	c := firewall.Canonical(p)
	if !c.IsValid() {
		return netip.Prefix{}, bad()
	}
	if c.Addr() != p.Addr().Unmap() {
		return netip.Prefix{}, fmt.Errorf("%q has bits behind its prefix: write %v for all of it, or %v alone", s, c, p.Addr())
	}
	return c, nil
}

// err is everything that is wrong with the text.
func (t *banText) err() error {
	if len(t.wrong) == 0 {
		return nil
	}
	e := control.Refusef("nothing was banned, %d lines are wrong:", len(t.wrong)+t.more)
	e.Lines = t.wrong
	if t.more > 0 {
		e.Lines = append(e.Lines, fmt.Sprintf("and %d more", t.more))
	}
	return e
}

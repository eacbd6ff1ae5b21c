package guard

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailweir/firewall"
)

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"48h": 48 * time.Hour, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute, "forever": time.Duration(Forever),
	} {
		got, err := ParseDuration(in)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", in, got, err, want)
		}
		if again, err := ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%v is not read back: %v, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "0", "0h", "-1h", "-1d", "2d-1h", "1x", "d", "ever", "99999999999d", "1d1d"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", in, got)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "203.0.113.0/24": "203.0.113.0/24", "2001:DB8::1": "2001:db8::1/128", "::ffff:192.0.2.1": "192.0.2.1/32",
	} {
		if got, err := ParsePrefix(in); err != nil || got.String() != want {
			t.Errorf("ParsePrefix(%q) = %v, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "example.com", "203.0.113.7/24", "203.0.113.7/33", "fe80::1%eth0", "1.2.3", "::ffff:1.2.3.4/90"} {
		if got, err := ParsePrefix(in); err == nil {
			t.Errorf("ParsePrefix(%q) = %v, want an error", in, got)
		}
	}
}

func TestLongLineIsNamed(t *testing.T) {
	text, err := readBanText(strings.NewReader("203.0.113.1\n" + strings.Repeat("x", 2*maxBanLine)))
	if err != nil || len(text.wrong) != 1 || !strings.HasPrefix(text.wrong[0], "line 2: ") {
		t.Errorf("got %+v, %v", text, err)
	}
}

// Whatever is piped into `weir ban -`: each order is a canonical prefix, and
// stands on a line that has it.
func FuzzBanText(f *testing.F) {
	f.Add("203.0.113.1 2d many guesses # seen\n2001:db8::/48 forever\n\n# none\n198.18.0.0/15\tbecause\n")
	f.Add("203.0.113.7/24 48h\r\n0.0.0.0/0 -1h")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := readBanText(strings.NewReader(s))
		if err != nil || len(text.orders) != len(text.lines) {
			t.Fatalf("%v, %d orders, %d lines", err, len(text.orders), len(text.lines))
		}
		lines := strings.Split(s, "\n")
		for i, o := range text.orders {
			if o.Prefix != firewall.Canonical(o.Prefix) || o.For < 0 || text.lines[i] < 1 || text.lines[i] > len(lines) {
				t.Fatalf("order %+v of line %d", o, text.lines[i])
			}
		}
	})
}

// A request is read only in the one form it is written in.
func FuzzRequest(f *testing.F) {
	f.Add(request{reason: firewall.Harvest, ref: 5}.append(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err == nil && !bytes.Equal(r.append(nil), b) {
			t.Fatalf("% x is read as %+v", b, r)
		}
		if err == nil && (!r.reason.Valid() || r.reason == firewall.Operator) {
			t.Fatalf("took reason %v", r.reason)
		}
	})
}

func TestResultRoundTrip(t *testing.T) {
	for _, r := range []Result{
		{Outcome: Banned, Ban: firewall.Ban{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Until: time.Unix(1<<31, 0), Reason: firewall.Trap, Step: 3}},
		{Outcome: Already, Ban: firewall.Ban{Prefix: netip.MustParsePrefix("2001:db8::/64"), Until: firewall.Forever, Reason: firewall.Operator}},
		{Outcome: Pending, Ban: firewall.Ban{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Until: time.Unix(5, 0), Reason: firewall.Operator}},
		{Outcome: Vetoed, Guard: firewall.GuardRelay}, {Outcome: NoData},
	} {
		if got, err := parseResult(r.append(nil)); err != nil || got != r {
			t.Errorf("%+v comes back as %+v, %v", r, got, err)
		}
	}
}

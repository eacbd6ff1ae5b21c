package ref

import (
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	seen := map[Ref]bool{}
	for range 10_000 {
		r := New()
		if seen[r] {
			t.Fatalf("%v came twice", r)
		}
		seen[r] = true
		for _, s := range []string{r.String(), strings.ToLower(r.String()), strings.ReplaceAll(r.String(), "-", " ")} {
			if got, err := Parse(s); err != nil || got != r {
				t.Fatalf("Parse(%q) = %v, %v, want %v", s, got, err, r)
			}
		}
	}
}

func TestKnown(t *testing.T) {
	r, err := Parse("K7QM-2V9D-4XTR") // the example of the record format
	if err != nil || r.String() != "K7QM-2V9D-4XTR" {
		t.Fatalf("got %v, %v", r, err)
	}
}

// One wrong character, or two neighbours swapped, never passes for another ref
// but in the few cases that a check of 31 values for 32 characters leaves.
func TestSlipsAreSeen(t *testing.T) {
	var slips, passed int
	for range 200 {
		s := []byte(strings.ReplaceAll(New().String(), "-", ""))
		for i := range s {
			for _, c := range []byte(alphabet) {
				if c == s[i] {
					continue
				}
				x := append([]byte(nil), s...)
				x[i] = c
				slips++
				if _, err := Parse(string(x)); err == nil {
					passed++
				}
			}
		}
	}
	if passed*100 > slips {
		t.Errorf("%d of %d single slips passed, want under 1 %%", passed, slips)
	}
}

func TestMalformed(t *testing.T) {
	for _, s := range []string{"", "K7QM", "K7QM-2V9D-4XT!", "0000-0000-0000", "K7QM-2V9D-4XTRR"} {
		if r, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, r)
		}
	}
}

package rdns

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// row is one name of a corpus. Of generic-static names (a hosted machine's
// default) neither outcome is an error.
type row struct {
	host, label, source string
	addr                netip.Addr
}

func corpus(t testing.TB, path string) []row {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []row
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Split(scan.Text(), "\t")
		if len(fields) < 5 || fields[0] == "hostname" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, row{fields[0], fields[2], fields[4], addr})
	}
	return all
}

// tally counts how the names of a corpus are judged.
type tally struct{ found, lines, misjudged, hosts int }

func (s *tally) add(r row, c Class) {
	generic := c == Generic || c == Dynamic
	switch r.label {
	case "generic":
		s.lines++
		if generic {
			s.found++
		}
	case "custom":
		s.hosts++
		if generic {
			s.misjudged++
		}
	}
}

func (s tally) String() string {
	return fmt.Sprintf("recall %s · mail hosts misjudged %s · precision %s",
		share(s.found, s.lines), share(s.misjudged, s.hosts), share(s.found, s.found+s.misjudged))
}

// share is k of n with its 95 % confidence interval (Wilson).
func share(k, n int) string {
	if n == 0 {
		return "-"
	}
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return fmt.Sprintf("%.1f %% (%d/%d, %.1f–%.1f)", 100*p, k, n, 100*max(0, mid-half), 100*min(1, mid+half))
}

// TestCorpora measures the classifier on each file, whole and by halves that a
// hash of the name makes (R-BW-14). The floors are a little below what it reaches:
// a part that breaks for many names shows, one that matters to few does not. The
// rules were written with the names of the first two files in view, so that names
// of other networks are judged worse; the third holds names that they were not.
// Of the last two, rules were mended for what was wrong in one half, and the
// floors are for the other. What all of them were judged by before that: recall
// 97.2 % (1123/1155, 96.1–98.0), and of the senders 0.3 % misjudged (1/349, 0.1–1.6).
func TestCorpora(t *testing.T) {
	for _, file := range []struct {
		path             string
		lines, hosts     int // at least so many of each kind
		recall, misjudge float64
		kept             bool // the floors are for the other half
	}{
		{"testdata/public.tsv", 200, 200, 0.985, 0.005, false},
		{"testdata/schemes.tsv", 200, 200, 0.985, 0.005, false},
		{"testdata/unseen.tsv", 35, 35, 0.97, 0.005, false},
		{"testdata/conventions.tsv", 500, 0, 0.97, 0.005, true},
		{"testdata/senders.tsv", 0, 150, 0.97, 0.005, true},
	} {
		var whole, bare tally
		var half [2]tally
		for _, r := range corpus(t, file.path) {
			v := Classify(r.host, r.addr, DefaultKeywords)
			whole.add(r, v.Class)
			bare.add(r, Classify(r.host, netip.Addr{}, DefaultKeywords).Class)
			h := fnv.New32a()
			h.Write([]byte(r.host))
			half[h.Sum32()%2].add(r, v.Class)
			if generic := v.Class != Custom; r.label == "generic" && !generic || r.label == "custom" && generic {
				t.Logf("%s %s is %s, called %s %s", r.host, r.addr, r.label, v.Class, v.Pattern)
			}
		}
		t.Logf("%s: %s", file.path, whole)
		t.Logf("  one half: %s", half[0])
		t.Logf("  the other: %s", half[1])
		t.Logf("  without the address: %s", bare)
		if file.kept {
			whole = half[1]
		}
		if whole.lines < file.lines || whole.hosts < file.hosts {
			t.Fatalf("%s holds %d and %d names: too few to say anything", file.path, whole.lines, whole.hosts)
		}
		if r := float64(whole.found) / float64(whole.lines); file.lines > 0 && r < file.recall {
			t.Errorf("%s: recall %.3f, want %.3f", file.path, r, file.recall)
		}
		if m := float64(whole.misjudged) / float64(whole.hosts); file.hosts > 0 && m > file.misjudge {
			t.Errorf("%s: %.3f of mail hosts are misjudged, want at most %.3f", file.path, m, file.misjudge)
		}
	}
}

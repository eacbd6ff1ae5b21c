package relay

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailweir/smtp/reply"
)

// sample is one line of testdata/replies.tsv: what a mail server answers, its
// class, and those that are right, too.
type sample struct {
	reply reply.Reply
	class Class
	also  []string
}

func (s sample) String() string { return s.reply.Line() }

func (s sample) right(c Class) bool { return c == s.class || slices.Contains(s.also, string(c)) }

func samples(t *testing.T, path string) []sample {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []sample
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Split(scan.Text(), "\t")
		if len(fields) < 5 || fields[0] == "code" || strings.HasPrefix(fields[0], "#") {
			continue
		}
		code, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		s := sample{reply: reply.Reply{Code: code, Text: fields[2]}, class: Class(fields[3])}
		if e, ok := parseEnhanced(fields[1]); ok {
			s.reply.Enhanced = e
		}
		if fields[4] != "" {
			s.also = strings.Split(fields[4], "|")
		}
		all = append(all, s)
	}
	return all
}

// TestClassifyKnownReplies measures the classes over replies of real servers
// (R-JF-06). Nothing but an unknown user may be called one.
func TestClassifyKnownReplies(t *testing.T) {
	type score struct{ called, right, of, found int }
	scores := make(map[Class]*score)
	at := func(c Class) *score {
		if scores[c] == nil {
			scores[c] = new(score)
		}
		return scores[c]
	}
	wrong := 0
	all := samples(t, "testdata/replies.tsv")
	for _, s := range all {
		got := Classify(s.reply)
		at(got).called++
		at(s.class).of++
		if s.right(got) {
			at(got).right++
			at(s.class).found++
			continue
		}
		wrong++
		t.Logf("%s, want %s %v: %s", got, s.class, s.also, s)
		if got == UnknownUserClass {
			t.Errorf("called an unknown user, which counts towards a ban: %s", s)
		}
	}
	for _, c := range slices.Sorted(func(yield func(Class) bool) {
		for c := range scores {
			if !yield(c) {
				return
			}
		}
	}) {
		s := scores[c]
		t.Logf("%-16s precision %s recall %s", c, ratio(s.right, s.called), ratio(s.found, s.of))
	}
	if 100*wrong > 2*len(all) {
		t.Errorf("%d of %d are wrong, want at most 2 %%", wrong, len(all))
	}
}

func ratio(n, of int) string {
	if of == 0 {
		return "   -   "
	}
	return fmt.Sprintf("%5.1f%% (%d/%d)", 100*float64(n)/float64(of), n, of)
}

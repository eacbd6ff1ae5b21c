package console

import (
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                          nil,
		"  status  ":                {"status"},
		"ban 192.0.2.1 --why 'a b'": {"ban", "192.0.2.1", "--why", "a b"},
		`why "a \"b\" 'c'" ''`:      {"why", `a "b" 'c'`, ""},
		`a\ b 'c\d' e""f`:           {"a b", `c\d`, "ef"},
		"é\tü":                      {"é", "ü"},
	} {
		if got, err := Words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`"`, `a 'b`, `a\`, "a\x00b", "a\x1b[2Jb", "a\nb", "\u0085"} {
		if got, err := Words(line); err == nil {
			t.Errorf("%q is taken for %q", line, got)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add(`a "b c" 'd'`)
	f.Add("\\\"'")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Words(line)
		if err != nil {
			return
		}
		// What was understood says the same again, quoted.
		var again []string
		for _, w := range words {
			again = append(again, "'"+strings.ReplaceAll(w, "'", `'"'"'`)+"'")
		}
		back, err := Words(strings.Join(again, " "))
		if err != nil || !slices.Equal(back, words) {
			t.Errorf("%q is %q, which is %q, %v", line, words, back, err)
		}
	})
}

func TestCommonBeginning(t *testing.T) {
	for _, tc := range []struct{ words, want string }{{"", ""}, {"status", "status"}, {"ban bans", "ban"}, {"ban why", ""}} {
		var list []Candidate
		for _, w := range strings.Fields(tc.words) {
			list = append(list, Candidate{Word: w})
		}
		if got := commonBeginning(list); got != tc.want {
			t.Errorf("%q begin with %q, want %q", tc.words, got, tc.want)
		}
	}
}

package config

import (
	"slices"
	"strings"
)

// suggest says what an unknown key was perhaps meant to be: one of its table
// that is spelt alike, or one of the same name in another table.
func suggest(e entry) string {
	last := e.path[len(e.path)-1]
	table := e.path[:len(e.path)-1]
	var here, elsewhere []string
	for _, s := range schema {
		for _, k := range s.keys {
			full := s.example(k, table)
			parts := splitPath(full)
			if slices.Equal(parts[:len(parts)-1], table) {
				here = append(here, parts[len(parts)-1])
			} else if parts[len(parts)-1] == last {
				elsewhere = append(elsewhere, full)
			}
		}
	}
	if near := nearest(last, here); near != "" {
		return "did you mean " + near + "?"
	}
	if len(elsewhere) > 0 {
		return "did you mean " + strings.Join(elsewhere, " or ") + "?"
	}
	if len(here) > 0 {
		return "the keys here are " + strings.Join(here, ", ")
	}
	return "the tables are " + strings.Join(tableNames(), ", ")
}

// example is the path of a key; the name of a named entry is that of table,
// where table is one.
func (s section) example(k key, table []string) string {
	switch {
	case s.path == "":
		return k.name
	case !s.named:
		return s.path + "." + k.name
	case len(table) >= 2 && table[0] == s.path:
		return Path(s.path, table[1]) + "." + k.name
	}
	return s.path + ".NAME." + k.name
}

// nearest is the word that s is a misspelling of, or "".
func nearest(s string, words []string) (near string) {
	best := len(s)/3 + 1
	for _, w := range words {
		if d := distance(strings.ToLower(s), w); d <= best && d < len(w) {
			near, best = w, d-1
		}
	}
	return near
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a file, and where.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1
	Col     int    `json:"col"`  // from 1, in characters
	What    string `json:"what"`
	Hint    string `json:"hint"`    // what to do
	Warning bool   `json:"warning"` // the file can be used as it is
}

// String is FILE:LINE:COL: what is wrong (hint).
func (p Problem) String() string {
	kind := ""
	if p.Warning {
		kind = "warning: "
	}
	s := fmt.Sprintf("%s:%d:%d: %s%s", p.File, p.Line, p.Col, kind, p.What)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems are in the order of the file.
type Problems []Problem

// Error is one problem a line.
func (ps Problems) Error() string {
	var lines []string
	for _, p := range ps {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Bad says whether any of them keeps the file from being used.
func (ps Problems) Bad() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning })
}

// Err is the problems that keep the file from being used, or nil.
func (ps Problems) Err() error {
	bad := slices.DeleteFunc(slices.Clone(ps), func(p Problem) bool { return p.Warning })
	if len(bad) == 0 {
		return nil
	}
	return bad
}

// Sort puts them in the order of the file.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
}

// position is the line and column of a byte of text.
func position(text []byte, offset int) (line, col int) {
	before := text[:min(offset, len(text))]
	line = 1 + strings.Count(string(before), "\n")
	if i := strings.LastIndexByte(string(before), '\n'); i >= 0 {
		before = before[i+1:]
	}
	return line, 1 + utf8.RuneCount(before)
}

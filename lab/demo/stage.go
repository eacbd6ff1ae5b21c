package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// stage is where the demo is played: it prints, and it is what a test is to
// package lab.
type stage struct {
	out     io.Writer
	colours bool
	number  int
	failed  bool
	cleanup []func()
}

// curtain ends the play at once; play catches it.
type curtain struct{}

func newStage(out io.Writer) *stage {
	f, ok := out.(*os.File)
	return &stage{out: out, colours: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (s *stage) paint(code, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// scene prints a heading.
func (s *stage) scene(title string) {
	s.number++
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1", fmt.Sprintf("%d  %s", s.number, title)))
}

// say prints a line of our own; what it tells was read somewhere.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", s.paint("36", fmt.Sprintf(format, args...)))
}

// wire prints lines of a transcript.
func (s *stage) wire(lines ...string) {
	for _, line := range lines {
		colour := "0"
		switch {
		case strings.HasPrefix(line, "S: 4"), strings.HasPrefix(line, "S: 5"):
			colour = "31"
		case strings.HasPrefix(line, "S: "):
			colour = "32"
		}
		fmt.Fprintf(s.out, "     %s\n", s.paint(colour, line))
	}
}

// shell prints a command and the first lines of what it printed.
func (s *stage) shell(command, output string) {
	const most = 18
	fmt.Fprintf(s.out, "   %s\n", s.paint("1", "$ "+command))
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	for _, line := range lines[:min(most, len(lines))] {
		fmt.Fprintf(s.out, "     %s\n", strings.TrimRight(line, " "))
	}
	if more := len(lines) - most; more > 0 {
		fmt.Fprintf(s.out, "     … and %d lines more\n", more)
	}
}

// clear takes down what was built, in reverse order.
func (s *stage) clear() {
	for len(s.cleanup) > 0 {
		last := s.cleanup[len(s.cleanup)-1]
		s.cleanup = s.cleanup[:len(s.cleanup)-1]
		last()
	}
}

// What follows makes the stage a lab.Test.

func (s *stage) Helper()          {}
func (s *stage) Name() string     { return "demo" }
func (s *stage) Failed() bool     { return s.failed }
func (s *stage) Cleanup(f func()) { s.cleanup = append(s.cleanup, f) }

func (s *stage) Logf(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *stage) Skipf(format string, args ...any) { s.Fatalf(format, args...) }

func (s *stage) Fatalf(format string, args ...any) {
	s.failed = true
	fmt.Fprintf(s.out, "\n%s\n", s.paint("1;31", "THE DEMO FAILED: "+fmt.Sprintf(format, args...)))
	panic(curtain{})
}

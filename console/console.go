// Package console is a command line that people type at: prompt, history,
// completion, help at "?", and a pager, on whatever terminal there is.
//
// It is made for serial lines as much as for SSH: it asks the terminal nothing,
// uses no colour and moves the cursor only within the line that is typed, so a
// slow line and one that does not know its size are served. Where TERM is unset
// or "dumb", lines are read as the terminal driver edits them. It knows no
// shell: a line is words, and what the words mean is the caller's.
package console

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/term"
)

// Console is what a session is made of. Everything must be given.
type Console struct {
	In, Out *os.File
	Prompt  string
	// Run does one command. What it writes to out is shown a screen at a time,
	// unless Whole says of the words that the command has the screen to itself.
	// Its ctx ends at Ctrl-C, or when nobody wants to see more.
	Run   func(ctx context.Context, words []string, out io.Writer)
	Whole func(words []string) bool
	// Complete lists what may come in place of the last of words, which may be
	// empty or a beginning.
	Complete func(words []string) []Candidate
}

// Candidate is one word that may come, with what it means.
type Candidate struct{ Word, Help string }

// Loop reads commands and runs them until the end of input, or ctx ends. done is
// asked after each command whether the session is over.
func (c *Console) Loop(ctx context.Context, done func() bool) error {
	signal.Ignore(syscall.SIGTSTP, syscall.SIGQUIT) // there is no shell to go back to
	next := c.lines()
	for ctx.Err() == nil {
		line, err := next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		words, err := Words(line)
		switch {
		case err != nil:
			c.say(err.Error())
		case len(words) > 0:
			c.command(ctx, words)
		}
		if done() {
			return nil
		}
	}
	return nil
}

func (c *Console) say(text string) { io.WriteString(c.Out, text+"\n") }

// command runs one command; Ctrl-C ends it, and not the session.
func (c *Console) command(ctx context.Context, words []string) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if c.Whole(words) {
		c.Run(ctx, words, c.Out)
		return
	}
	p := newPager(c.In, c.Out, stop)
	c.Run(ctx, words, p)
	p.flush()
}

// lines returns what reads the next line: io.EOF at the end of input.
func (c *Console) lines() func(context.Context) (string, error) {
	if name := os.Getenv("TERM"); term.IsTerminal(int(c.In.Fd())) && name != "" && name != "dumb" {
		return c.edited()
	}
	in := bufio.NewReaderSize(c.In, maxLine)
	return func(context.Context) (string, error) {
		if term.IsTerminal(int(c.In.Fd())) {
			io.WriteString(c.Out, c.Prompt)
		}
		return plainLine(in)
	}
}

// maxLine bounds a line, in bytes; the kernel's own is 4096 (termios(3)).
const maxLine = 4096

// plainLine reads a line; one that is too long is left out, and said.
func plainLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		return "", nil
	}
	if len(line) > 0 {
		return strings.TrimRight(string(line), "\r\n"), nil
	}
	return "", err
}

// edited reads lines with golang.org/x/term. The terminal is raw only while a
// line is typed.
func (c *Console) edited() func(context.Context) (string, error) {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{from: c.In}, c.Out}, c.Prompt)
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		return c.complete(t, line, pos, key)
	}
	return func(context.Context) (string, error) {
		w, h := size(c.Out)
		t.SetSize(w, h)
		old, err := term.MakeRaw(int(c.In.Fd()))
		if err != nil {
			return "", err
		}
		defer term.Restore(int(c.In.Fd()), old)
		line, err := t.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			err = nil
		}
		return line, err
	}
}

// size is that of a terminal; one that does not know its own, as on a serial
// line, has 80 columns and 24 lines.
func size(f *os.File) (columns, lines int) {
	columns, lines, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 20 || lines < 2 {
		return 80, 24
	}
	return columns, lines
}

// keys turns Ctrl-C, at which x/term ends, into the end of this line: to its
// end, delete it, and a return. It leaves out what is no UTF-8, at which x/term
// waits for more.
type keys struct {
	from    io.Reader
	raw     []byte // read, the beginning of a character
	pending []byte // to be handed on
}

func (k *keys) Read(b []byte) (int, error) {
	for len(k.pending) == 0 {
		buf := make([]byte, 256)
		n, err := k.from.Read(buf)
		if n == 0 {
			return 0, err
		}
		k.take(buf[:n])
	}
	n := copy(b, k.pending)
	k.pending = k.pending[n:]
	return n, nil
}

func (k *keys) take(b []byte) {
	const ctrlC, ctrlE, ctrlU = 3, 5, 21
	for k.raw = append(k.raw, b...); utf8.FullRune(k.raw); {
		r, n := utf8.DecodeRune(k.raw)
		switch {
		case r == ctrlC:
			k.pending = append(k.pending, ctrlE, ctrlU, '\r')
		case r != utf8.RuneError:
			k.pending = append(k.pending, k.raw[:n]...)
		}
		k.raw = k.raw[n:]
	}
}

// complete answers TAB and "?".
func (c *Console) complete(t *term.Terminal, line string, pos int, key rune) (string, int, bool) {
	if key != '\t' && key != '?' || pos != len(line) {
		return "", 0, false
	}
	words, open := beginning(line)
	if open {
		return "", 0, false // inside of quotes
	}
	list := c.Complete(words)
	last := words[len(words)-1]
	if key == '\t' {
		if common := commonBeginning(list); len(common) > len(last) {
			if len(list) == 1 {
				common += " "
			}
			line = line[:len(line)-len(last)] + common
			return line, len(line), true
		}
	}
	for _, l := range list {
		io.WriteString(t, "  "+pad(l.Word, 14)+" "+l.Help+"\n")
	}
	return line, len(line), true
}

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s)))
}

func commonBeginning(list []Candidate) string {
	if len(list) == 0 {
		return ""
	}
	common := list[0].Word
	for _, l := range list[1:] {
		for !strings.HasPrefix(l.Word, common) {
			common = common[:len(common)-1]
		}
	}
	return common
}

// beginning is the words of a line that is not finished, the last of which may
// be empty; open says that it ends inside of quotes.
func beginning(line string) (words []string, open bool) {
	words, err := Words(line)
	if err != nil {
		return nil, true
	}
	if line == "" || strings.HasSuffix(line, " ") {
		words = append(slices.Clip(words), "")
	}
	return words, len(words) == 0
}

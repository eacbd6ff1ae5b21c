package console

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/term"
)

// pager shows what is written to it a screen at a time: blank for the next one,
// return for the next line, q for no more. On what is no terminal, or does not
// know its size, it holds nothing up.
type pager struct {
	in   io.Reader
	fd   int
	out  io.Writer
	stop func() // the one who writes

	columns, lines int // 0 lines: everything at once
	row, column    int
	over           bool
}

// errNoMore is what a writer gets when nobody wants to see more.
var errNoMore = errors.New("nobody looks any more")

func newPager(in, out *os.File, stop func()) *pager {
	p := &pager{in: in, fd: int(in.Fd()), out: out, stop: stop}
	if w, h, err := term.GetSize(int(out.Fd())); err == nil && w > 0 && h > 2 && term.IsTerminal(p.fd) {
		p.columns, p.lines = w, h-1
	}
	return p
}

// Columns is the width of the screen, for writers who fit their lines to it; 0
// is unknown.
func (p *pager) Columns() int { return p.columns }

// Write implements io.Writer.
func (p *pager) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if p.over {
			return 0, errNoMore
		}
		n := len(rest)
		if p.lines > 0 {
			n = p.upToNextLine(rest)
		}
		if _, err := p.out.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		if p.lines > 0 && p.row >= p.lines {
			p.ask()
		}
	}
	return len(b), nil
}

// upToNextLine is how much of b goes on this line of the screen.
func (p *pager) upToNextLine(b []byte) int {
	end := bytes.IndexByte(b, '\n')
	room := p.columns - p.column // in bytes: at worst it asks early
	if end < 0 || end > room {
		if len(b) <= room {
			p.column += len(b)
			return len(b)
		}
		p.row, p.column = p.row+1, 0
		return max(room, 1)
	}
	p.row, p.column = p.row+1, 0
	return end + 1
}

const more = "--more-- (blank, return, q)"

// ask waits for a key. What is no answer is not taken for one.
func (p *pager) ask() {
	old, err := term.MakeRaw(p.fd)
	if err != nil {
		p.lines = 0
		return
	}
	defer term.Restore(p.fd, old)
	io.WriteString(p.out, more)
	defer io.WriteString(p.out, "\r"+string(bytes.Repeat([]byte(" "), len(more)))+"\r")
	key := make([]byte, 1)
	for {
		if n, err := p.in.Read(key); n == 0 || err != nil {
			key[0] = 'q' // the line is dead
		}
		switch key[0] {
		case ' ':
			p.row = 0
		case '\r', '\n':
			p.row = p.lines - 1
		case 'q', 'Q', 3, 4: // Ctrl-C, Ctrl-D
			p.over = true
			p.stop()
		default:
			continue
		}
		return
	}
}

// flush is for the end of the output.
func (p *pager) flush() {
	if p.column > 0 && !p.over {
		io.WriteString(p.out, "\n") // or the prompt would stand behind it
	}
}

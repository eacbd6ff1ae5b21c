package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
)

// maxLine bounds one line of input, in bytes: a record with the most
// recipients and checks that a session can have is far below.
const maxLine = 4 << 20

// LineError says which line of an input is no record, and why.
type LineError struct {
	Number int // from 1
	Err    error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Number, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

var errLongLine = fmt.Errorf("longer than %d bytes: not a record", maxLine)

// batch is how many lines are read before they are made records, by all
// processors at once: that takes longer than all that is done with them.
const batch = 512

// Lines reads records, one JSON object a line; empty lines are passed over. A
// line that is no record comes as a *LineError, and reading goes on behind it;
// any other error is r's own and the last.
func Lines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		for first := 1; ; first += batch {
			lines, last := readBatch(in)
			parseAll(lines)
			for i := range lines {
				if !lines[i].yield(yield, first+i) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}

// parsed is a line as it was read, and what it says.
type parsed struct {
	text []byte
	line Line
	err  error
}

// readBatch reads up to batch lines; last: there are no more.
func readBatch(in *bufio.Reader) (lines []parsed, last bool) {
	for len(lines) < batch {
		b, err := readLine(in)
		if err == io.EOF {
			return append(lines, parsed{text: b}), true
		}
		lines = append(lines, parsed{text: b, err: err})
		if err != nil && !errors.Is(err, errLongLine) {
			return lines, true
		}
	}
	return lines, false
}

// parseAll makes records of lines, each processor of every so many.
func parseAll(lines []parsed) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(lines); i += workers {
				lines[i].parse()
			}
		})
	}
	wg.Wait()
}

func (p *parsed) parse() {
	if p.text = bytes.TrimSpace(p.text); p.err != nil || len(p.text) == 0 {
		return
	}
	if err := p.line.UnmarshalJSON(p.text); err != nil {
		p.err = &invalid{err}
	}
}

// invalid is why a line is no record.
type invalid struct{ error }

// yield passes on line n, unless it is empty.
func (p *parsed) yield(yield func(Line, error) bool, n int) bool {
	var bad *invalid
	switch {
	case errors.As(p.err, &bad):
		return yield(Line{}, &LineError{n, bad.error})
	case errors.Is(p.err, errLongLine):
		return yield(Line{}, &LineError{n, p.err})
	case p.err != nil:
		return yield(Line{}, fmt.Errorf("read records: %w", p.err))
	case len(p.text) == 0:
		return true
	}
	return yield(p.line, nil)
}

// readLine reads up to and with a line feed. A line over maxLine is read to
// its end and thrown away.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if long && (err == nil || err == io.EOF) {
			return nil, errLongLine
		}
		return line, err
	}
}

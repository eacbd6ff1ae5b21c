package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
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

// Lines reads records, one JSON object a line; empty lines are passed over. A
// line that is no record comes as a *LineError, and reading goes on behind it;
// any other error is r's own and the last.
func Lines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			b, err := readLine(in)
			last := err != nil && !errors.Is(err, errLongLine)
			if !yieldLine(yield, n, b, err) || last {
				return
			}
		}
	}
}

func yieldLine(yield func(Line, error) bool, n int, b []byte, err error) bool {
	switch {
	case errors.Is(err, errLongLine):
		return yield(Line{}, &LineError{n, err})
	case err != nil && err != io.EOF:
		return yield(Line{}, fmt.Errorf("read records: %w", err))
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return true
	}
	var l Line
	if err := l.UnmarshalJSON(b); err != nil {
		return yield(Line{}, &LineError{n, err})
	}
	return yield(l, nil)
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

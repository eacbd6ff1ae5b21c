package wire

import (
	"bytes"
	"sync"
)

const (
	smallBuffer = 512      // lives in the Conn: what an idle connection costs
	largeBuffer = 16 << 10 // lent while a body comes in
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// input holds bytes of the client that nobody has taken yet. It starts in a
// small array, grows to one command line when it must, and borrows a large
// buffer for bodies.
type input struct {
	small [smallBuffer]byte
	grown []byte
	large *[largeBuffer]byte
	r, w  int
}

func (in *input) buffer() []byte {
	switch {
	case in.large != nil:
		return in.large[:]
	case in.grown != nil:
		return in.grown
	}
	return in.small[:]
}

// bytes returns what is waiting.
func (in *input) bytes() []byte { return in.buffer()[in.r:in.w] }

// take drops the first n bytes of what is waiting.
func (in *input) take(n int) { in.r += n }

// clear drops all that is waiting and says how much that was.
func (in *input) clear() int {
	n := in.w - in.r
	in.r, in.w = 0, 0
	return n
}

// hasLine says whether a whole line is waiting.
func (in *input) hasLine() bool { return bytes.IndexByte(in.bytes(), '\n') >= 0 }

// line takes the next line with its LF; false: there is none yet.
func (in *input) line() ([]byte, bool) {
	i := bytes.IndexByte(in.bytes(), '\n')
	if i < 0 {
		return nil, false
	}
	line := in.bytes()[:i+1]
	in.take(i + 1)
	return line, true
}

// space returns where more bytes may be read to; it is never empty as long as
// less than a command line is waiting.
func (in *input) space() []byte {
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	if in.w == len(in.buffer()) {
		in.w = copy(in.buffer(), in.bytes())
		in.r = 0
	}
	if in.w == len(in.buffer()) && len(in.buffer()) < MaxCommandLine {
		in.grown = append(make([]byte, 0, MaxCommandLine), in.bytes()...)[:MaxCommandLine]
	}
	return in.buffer()[in.w:]
}

// added notes that n bytes were read to space.
func (in *input) added(n int) { in.w += n }

// lend makes the buffer large, for a body.
func (in *input) lend() {
	if in.large != nil {
		return
	}
	large := largeBuffers.Get().(*[largeBuffer]byte)
	in.w = copy(large[:], in.bytes())
	in.r = 0
	in.large, in.grown = large, nil
}

// release gives lent and grown memory back, if nothing waits in it: an idle
// connection keeps only its small buffer.
func (in *input) release() {
	if in.r != in.w {
		return
	}
	in.r, in.w = 0, 0
	in.grown = nil
	if in.large != nil {
		largeBuffers.Put(in.large)
		in.large = nil
	}
}

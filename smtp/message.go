package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// inMemory is how much of a message is held in memory before it goes to a file;
// allInMemory is how much of all messages together: ten thousand clients who each
// send half a message would take a gigabyte.
const (
	inMemory    = 64 << 10
	allInMemory = 128 << 20
)

// bodies counts the octets of messages that are held in memory.
type bodies struct{ octets atomic.Int64 }

// hold counts n octets more; false: there is no room for them.
func (b *bodies) hold(n int) bool {
	if b.octets.Add(int64(n)) <= allInMemory {
		return true
	}
	b.free(n)
	return false
}

func (b *bodies) free(n int) { b.octets.Add(-int64(n)) }

// message is the body of one transaction, received whole: in memory while it
// is small, else in a file that has no name, so that nothing is left of it
// however we end.
type message struct {
	dir  string
	all  *bodies
	mem  *bytes.Buffer
	file *os.File
	size int64
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func newMessage(dir string, all *bodies) *message {
	return &message{dir: dir, all: all, mem: buffers.Get().(*bytes.Buffer)}
}

// Write appends to the message. An error is one of our disk.
func (m *message) Write(p []byte) (int, error) {
	if m.file == nil && (m.mem.Len()+len(p) > inMemory || !m.all.hold(len(p))) {
		if err := m.spill(); err != nil {
			return 0, err
		}
	}
	m.size += int64(len(p))
	if m.file == nil {
		return m.mem.Write(p)
	}
	n, err := m.file.Write(p)
	if err != nil {
		return n, fmt.Errorf("hold message: %w", err)
	}
	return n, nil
}

// spill moves the message to a file.
func (m *message) spill() error {
	f, err := os.CreateTemp(m.dir, "message-")
	if err != nil {
		return fmt.Errorf("hold message: %w", err)
	}
	if err := errors.Join(os.Remove(f.Name()), write(f, m.mem.Bytes())); err != nil {
		f.Close()
		return fmt.Errorf("hold message: %w", err)
	}
	m.file = f
	m.release()
	return nil
}

// release gives back the memory, once.
func (m *message) release() {
	if m.mem == nil {
		return
	}
	m.all.free(m.mem.Len())
	if m.mem.Cap() <= 2*inMemory {
		m.mem.Reset()
		buffers.Put(m.mem)
	}
	m.mem = nil
}

func write(f *os.File, p []byte) error {
	_, err := f.Write(p)
	return err
}

// ReadAt reads what was written.
func (m *message) ReadAt(p []byte, off int64) (int, error) {
	if m.file != nil {
		return m.file.ReadAt(p, off)
	}
	return bytes.NewReader(m.mem.Bytes()).ReadAt(p, off)
}

// under returns the message with head before it, as a Deliverer reads it.
func (m *message) under(head []byte) *io.SectionReader {
	return io.NewSectionReader(&headed{head, m}, 0, int64(len(head))+m.size)
}

// close frees what the message holds; it cannot be read afterwards.
func (m *message) close() {
	if m.file != nil {
		m.file.Close()
	}
	m.release()
}

// headed is a few bytes before a message.
type headed struct {
	head []byte
	body io.ReaderAt
}

func (h *headed) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(h.head)) {
		n = copy(p, h.head[off:])
		if n == len(p) {
			return n, nil
		}
	}
	k, err := h.body.ReadAt(p[n:], off+int64(n)-int64(len(h.head)))
	return n + k, err
}

// isFull says whether an error means that there is no room, as against a disk
// or a setting that is broken.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

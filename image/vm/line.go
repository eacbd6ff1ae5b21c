package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"
)

// Line is one end of a serial line. All that came is kept.
type Line struct {
	file *os.File
	copy io.Writer // gets all that comes, for whoever wants to watch

	mu   sync.Mutex
	text []byte
	from int           // where the next Expect looks
	more chan struct{} // closed when something came
	end  bool
}

// newLine makes a line and the end that QEMU gets.
func newLine(copy io.Writer) (*Line, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial line: %w", err)
	}
	l := &Line{file: os.NewFile(uintptr(fds[0]), "serial line"), copy: copy, more: make(chan struct{})}
	go l.read()
	return l, os.NewFile(uintptr(fds[1]), "serial line"), nil
}

func (l *Line) read() {
	b := make([]byte, 4096)
	for {
		n, err := l.file.Read(b)
		l.copy.Write(b[:n])
		l.mu.Lock()
		l.text = append(l.text, b[:n]...)
		l.end = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// note puts words of our own into the text.
func (l *Line) note(words string) {
	l.mu.Lock()
	l.text = append(l.text, words...)
	l.mu.Unlock()
}

// Write types.
func (l *Line) Write(p []byte) (int, error) { return l.file.Write(p) }

// Expect waits for a regular expression and returns all up to the end of its
// match; the next Expect looks behind it.
func (l *Line) Expect(ctx context.Context, pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	for {
		l.mu.Lock()
		rest := l.text[l.from:]
		if m := re.FindIndex(rest); m != nil {
			text := string(rest[:m[1]])
			l.from += m[1]
			l.mu.Unlock()
			return text, nil
		}
		more, end := l.more, l.end
		l.mu.Unlock()
		if end {
			return string(rest), fmt.Errorf("the line ended before %q came", pattern)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return string(rest), fmt.Errorf("wait for %q on the line: %w", pattern, ctx.Err())
		}
	}
}

// Text is all that came.
func (l *Line) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

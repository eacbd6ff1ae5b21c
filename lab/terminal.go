package lab

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
)

// Screen is what stands on a terminal.
type Screen struct {
	Lines    []string
	Wrapped  int // lines that were too long
	Scrolled int // lines that went out at the top
}

func (s Screen) String() string { return strings.Join(s.Lines, "\n") }

// Terminal is a command of the appliance that runs on a pseudo-terminal, and what
// it shows. It knows what the commands write: text, line ends, home and clear.
type Terminal struct {
	host       *Host
	proc       *os.Process
	pty        *os.File
	rows, cols int
	ended      chan struct{}

	mu       sync.Mutex
	unread   []byte // the beginning of a sequence
	now      Screen
	row, col int
	frames   []Screen // that were cleared away
	last     Screen   // as it stood at the end
}

// Terminal starts a command on a terminal of a size.
func (w *Weir) Terminal(rows, cols uint16, args ...string) (*Terminal, error) {
	master, tty, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	if err := pty.Setsize(master, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	cmd := w.host.Command(w.binary, args...)
	cmd.Env = append(cmd.Env, "TERM=vt220")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr.Setctty = true
	if err := w.host.Do(cmd.Start); err != nil {
		return nil, errors.Join(err, master.Close())
	}
	t := &Terminal{host: w.host, proc: cmd.Process, pty: master, rows: int(rows), cols: int(cols), ended: make(chan struct{})}
	t.clear()
	go func() {
		defer close(t.ended)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			t.write(b[:n])
			if err != nil { // EIO: nobody has the other end any more
				break
			}
		}
		_ = cmd.Wait()
		t.mu.Lock()
		t.last = t.copy()
		t.mu.Unlock()
	}()
	return t, nil
}

// Close interrupts the command and waits for its end.
func (t *Terminal) Close() {
	_ = t.proc.Signal(syscall.SIGINT)
	select {
	case <-t.ended:
	case <-time.After(10 * time.Second):
		_ = t.proc.Kill()
		<-t.ended
	}
	_ = t.pty.Close()
}

// Wait waits for the command to end by itself, and returns what stands there
// then.
func (t *Terminal) Wait() Screen {
	<-t.ended
	_ = t.pty.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// Frame is the last whole screen: what stood there when it was cleared. false:
// there was none yet.
func (t *Terminal) Frame() (Screen, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.frames) == 0 {
		return Screen{}, false
	}
	return t.frames[len(t.frames)-1], true
}

// Frames are all whole screens so far.
func (t *Terminal) Frames() []Screen {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Screen(nil), t.frames...)
}

func (t *Terminal) copy() Screen {
	s := t.now
	s.Lines = append([]string(nil), s.Lines...)
	return s
}

func (t *Terminal) clear() { t.now = Screen{Lines: make([]string, t.rows)} }

var sequence = regexp.MustCompile(`^\x1b\[([0-9;?]*)([A-Za-z])`)

func (t *Terminal) write(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b = append(t.unread, b...)
	for len(b) > 0 {
		if b[0] == '\x1b' {
			m := sequence.FindSubmatch(b)
			if m == nil {
				if len(b) > 32 { // no beginning of one either
					t.put('?')
					b = b[1:]
					continue
				}
				break
			}
			t.control(string(m[1]), m[2][0])
			b = b[len(m[0]):]
			continue
		}
		if !utf8.FullRune(b) {
			break
		}
		r, n := utf8.DecodeRune(b)
		t.put(r)
		b = b[n:]
	}
	t.unread = bytes.Clone(b)
}

func (t *Terminal) control(args string, what byte) {
	switch what {
	case 'H':
		t.row, t.col = 0, 0
	case 'J':
		if n, _ := strconv.Atoi(args); n == 2 {
			if strings.TrimSpace(t.now.String()) != "" {
				t.frames = append(t.frames, t.copy())
			}
			t.clear()
		}
	}
}

func (t *Terminal) put(r rune) {
	switch {
	case r == '\r':
		t.col = 0
	case r == '\n':
		t.feed()
	case r < ' ':
	default:
		if t.col == t.cols {
			t.now.Wrapped++
			t.col = 0
			t.feed()
		}
		line := []rune(t.now.Lines[t.row])
		for len(line) <= t.col {
			line = append(line, ' ')
		}
		line[t.col] = r
		t.now.Lines[t.row] = string(line)
		t.col++
	}
}

// feed goes to the next line.
func (t *Terminal) feed() {
	if t.row++; t.row < t.rows {
		return
	}
	t.row = t.rows - 1
	if strings.TrimSpace(t.now.Lines[0]) != "" || t.now.Scrolled > 0 {
		t.now.Scrolled++
	}
	t.now.Lines = append(t.now.Lines[1:], "")
}

package syslog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"mailweir/disk"
)

// A buffer keeps the messages that a target has not taken yet, in order: on
// disk, and behind those in memory what the disk did not take. Messages are
// counted from 1; the count goes on after a restart.
//
// On disk it is a folder of append-only files, each called by the number of its
// first message, removed when the target has all of it. An entry is a line of
// package disk with "NUMBER MESSAGE" as its body: one that a crash has torn is
// left out, and its number too. The file "sent" holds how far the target is;
// when it is lost, messages are sent twice, not left out. What one write(2) took
// outlives this process; sync puts it out of reach of a power cut.
type buffer struct {
	dir  string // "": in memory only
	most int64  // bytes on disk

	mu       sync.Mutex
	opened   bool   // what an earlier process left is known
	files    []file // oldest first; the last may be w
	w        *os.File
	mem      []message
	next     uint64 // number of the next message
	sent     uint64 // all below are with the target
	at       cursor // of the next to be sent
	lost     uint64 // what was put and never sent
	dirty    bool   // w has something that is not synced
	err      error  // of the last write to the disk
	more     chan struct{}
	position *os.File
}

// message is one in its written form.
type message struct {
	n    uint64
	text []byte
}

type file struct {
	first uint64
	size  int64 // whole entries
}

// cursor is how far was read: below n, and below offset in the file that begins
// with the number file.
type cursor struct {
	n      uint64
	file   uint64
	offset int64
}

const (
	positionName = "sent"
	maxFile      = 4 << 20  // bytes after which a new file begins
	readAhead    = 64 << 10 // bytes; more than the largest entry
)

// newBuffer makes one; an empty dir keeps everything in memory. The folder is
// looked at when it is first needed, and again as long as that goes wrong.
func newBuffer(dir string, most int64) *buffer {
	return &buffer{dir: dir, most: most, next: 1, sent: 1, at: cursor{n: 1}, more: make(chan struct{}, 1)}
}

// open finds what an earlier process left. The caller holds the lock.
func (b *buffer) open() error {
	if b.opened || b.dir == "" {
		return nil
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	list, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	var files []file
	for _, e := range list {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			info, err := e.Info()
			if err != nil {
				return err
			}
			files = append(files, file{first: n, size: info.Size()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.first, b.first) })
	next, sent := uint64(1), uint64(1)
	if len(files) > 0 {
		sent = files[0].first
		last := &files[len(files)-1]
		if next, last.size, err = b.end(*last); err != nil {
			return err
		}
	}
	if b.position, err = os.OpenFile(filepath.Join(b.dir, positionName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if n, ok := readPosition(b.position); ok {
		sent = max(sent, n)
	}
	b.opened, b.files, b.sent = true, files, sent
	b.at = cursor{n: sent}
	b.renumber(max(next, sent))
	b.forget()
	return nil
}

// renumber has what waits in memory come behind what the disk had.
func (b *buffer) renumber(next uint64) {
	by := next - 1
	for i := range b.mem {
		b.mem[i].n += by
	}
	b.next += by
}

// end is the number behind the last entry of a file, and where that ends. What
// is torn counts as one: its number is gone, so that the gap shows.
func (b *buffer) end(f file) (next uint64, size int64, err error) {
	text, err := os.ReadFile(b.path(f.first))
	next = f.first
	for rest := text; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if n, _, ok := parseMessage(line); ok && whole {
			next = max(next, n+1)
		} else {
			next++
		}
		if rest = after; whole {
			size = int64(len(text) - len(rest))
		}
	}
	return next, size, err
}

func readPosition(f *os.File) (uint64, bool) {
	line := make([]byte, 64)
	n, _ := f.ReadAt(line, 0)
	line, _, whole := bytes.Cut(line[:n], []byte("\n"))
	body, ok := disk.ParseEntry(line)
	at, err := strconv.ParseUint(string(bytes.TrimSpace(body)), 10, 64)
	return at, whole && ok && err == nil && at > 0
}

func appendMessage(b []byte, m message) []byte {
	return disk.AppendEntry(b, strconv.AppendUint(nil, m.n, 10), []byte(" "), m.text)
}

func parseMessage(line []byte) (n uint64, text []byte, ok bool) {
	body, ok := disk.ParseEntry(line)
	number, text, cut := bytes.Cut(body, []byte(" "))
	n, err := strconv.ParseUint(string(number), 10, 64)
	return n, text, ok && cut && err == nil
}

func (b *buffer) path(first uint64) string {
	return filepath.Join(b.dir, fmt.Sprintf("%020d", first))
}

// put takes one message, which write is given the number of. It never waits for
// the target. skip numbers are left out: those of messages that were lost before
// they came here.
func (b *buffer) put(skip uint64, write func(n uint64) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.open(); err != nil {
		b.err = err
	}
	b.lost += skip
	b.next += skip
	b.mem = append(b.mem, message{b.next, write(b.next)})
	b.next++
}

// flush writes what was put to the disk, and tells the reader. What the disk
// does not take waits in memory, the latest of it.
func (b *buffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir != "" && len(b.mem) > 0 {
		if b.err = errors.Join(b.open(), b.write()); b.err == nil {
			b.trim()
		}
	}
	if over := len(b.mem) - maxQueued; over > 0 {
		for _, m := range b.mem[:over] {
			if m.n >= b.at.n { // else it is on its way
				b.lost++
			}
		}
		b.mem = slices.Delete(b.mem, 0, over)
	}
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// write appends what is in memory to the newest file.
func (b *buffer) write() error {
	if !b.opened {
		return nil // open has said why
	}
	if b.w == nil || b.files[len(b.files)-1].size >= b.fileSize() {
		if err := b.begin(b.mem[0].n); err != nil {
			return err
		}
	}
	var lines []byte
	for _, m := range b.mem {
		lines = appendMessage(lines, m)
	}
	f := &b.files[len(b.files)-1]
	if n, err := b.w.WriteAt(lines, f.size); err != nil {
		if n > 0 {
			err = errors.Join(err, b.w.Truncate(f.size)) // or the next would stand behind half a line
		}
		return err
	}
	f.size += int64(len(lines))
	b.dirty, b.mem = true, nil
	return nil
}

func (b *buffer) fileSize() int64 { return min(maxFile, b.most/8) }

// begin starts a file.
func (b *buffer) begin(first uint64) error {
	if b.w != nil {
		b.w.Sync()
		b.w.Close()
		b.w = nil
	}
	w, err := os.OpenFile(b.path(first), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) && len(b.files) > 0 && b.files[len(b.files)-1].first == first {
		w, err = os.OpenFile(b.path(first), os.O_RDWR|os.O_TRUNC, 0o600) // it holds nothing whole
		b.files = b.files[:len(b.files)-1]
	}
	if err != nil {
		return err
	}
	b.w = w
	b.files = append(b.files, file{first: first})
	return disk.SyncDir(b.dir)
}

// trim removes the oldest files while there is too much.
func (b *buffer) trim() {
	var total int64
	for _, f := range b.files {
		total += f.size
	}
	for ; total > b.most && len(b.files) > 1; b.files = b.files[1:] {
		if unsent := max(b.sent, b.files[0].first); b.files[1].first > unsent {
			b.lost += b.files[1].first - unsent
		}
		total -= b.files[0].size
		os.Remove(b.path(b.files[0].first))
	}
}

// take returns the next messages, most of them at the most, or none. An error is
// the disk's: what it concerns is left out.
func (b *buffer) take(most int) (list []message, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = cmp.Or(b.open(), b.err)
	for _, f := range b.files {
		if f.first < b.at.file {
			continue
		}
		if f.first > b.at.file {
			b.at.file, b.at.offset = f.first, 0
		}
		for err == nil && b.at.offset < f.size {
			if list, err = b.read(f, most); len(list) > 0 {
				return list, nil
			}
		}
		if err != nil {
			b.at.offset, b.lost = f.size, b.lost+1
			return nil, err
		}
	}
	for _, m := range b.mem {
		if m.n >= b.at.n && len(list) < most {
			list = append(list, m)
			b.at.n = m.n + 1
		}
	}
	return list, nil
}

// read returns messages of one file from the cursor on, and moves it; none
// where there is nothing but what was torn, or taken from memory before.
func (b *buffer) read(f file, most int) (list []message, err error) {
	r, err := os.Open(b.path(f.first))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	begin := b.at.offset
	text := make([]byte, min(readAhead, f.size-begin))
	if _, err := r.ReadAt(text, b.at.offset); err != nil {
		return nil, err
	}
	for len(list) < most {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			if b.at.offset == begin {
				b.at.offset += int64(len(text)) // torn: no line of ours is so long
			}
			break
		}
		b.at.offset += int64(len(text) - len(rest))
		text = rest
		if n, m, ok := parseMessage(line); ok && n >= b.at.n {
			list = append(list, message{n, m})
			b.at.n = n + 1
		}
	}
	return list, nil
}

// rewind has take return again what the target is not known to have, and
// returns the number of its first.
func (b *buffer) rewind() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = cursor{n: b.sent}
	return b.sent
}

// done says that the target has all below n.
func (b *buffer) done(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= b.sent {
		return
	}
	b.sent = n
	b.forget()
	if b.position != nil {
		// One write in place: torn by a power cut, it is known by its checksum.
		line := disk.AppendEntry(nil, fmt.Appendf(nil, "%20d", n))
		if _, err := b.position.WriteAt(line, 0); err != nil {
			b.err = err
		}
	}
}

// forget lets go of what the target has.
func (b *buffer) forget() {
	for len(b.files) > 1 && b.files[1].first <= b.sent {
		os.Remove(b.path(b.files[0].first))
		b.files = b.files[1:]
	}
	b.mem = slices.DeleteFunc(b.mem, func(m message) bool { return m.n < b.sent })
}

// sync puts what waits out of reach of a power cut.
func (b *buffer) sync() {
	b.mu.Lock()
	w, due := b.w, b.dirty && b.sent < b.next
	b.dirty = b.dirty && !due
	b.mu.Unlock()
	if due {
		w.Sync() // what goes wrong here, the next write says
	}
}

// stats are the figures of now. Before the folder could be looked at, what
// waits there is not counted.
func (b *buffer) stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{Waiting: b.next - b.sent, Most: b.most, Lost: b.lost}
	for _, f := range b.files {
		s.Bytes += f.size
	}
	if b.err != nil {
		s.Problem = b.err.Error()
	}
	return s
}

// close is for one who puts nothing any more. What is in memory only is lost.
func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost += uint64(len(b.mem))
	if b.w != nil {
		b.w.Sync()
		b.w.Close()
	}
	if b.position != nil {
		b.position.Close()
	}
	b.w, b.position, b.mem = nil, nil, nil
}

package record

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mailweir/disk"
)

// The journal is the write-ahead queue between sessions and SQLite: a run of
// append-only segments, journal.1, journal.2, …, each removed when SQLite has
// all of it. An entry is one line:
//
//	crc32c-of-the-rest(8 hex digits) kind(1 letter) JSON \n
//
// so that a line torn by a crash is told from a whole one and every whole one
// before and behind it is used. Append is one write(2): once it returned, the
// death of this process loses nothing; sync puts it out of reach of a power
// cut.
type journal struct {
	dir  string
	f    *os.File
	seq  uint64
	size int64 // bytes of f that hold whole entries
}

// kind says what an entry of the journal is.
type kind byte

const (
	announced kind = 'a' // a Line as far as it was known when its ref was said
	recorded  kind = 'r' // a Line
	convicted kind = 'c' // a Conviction
	probe     kind = 'p' // nothing: tried whether the disk takes it again
)

const journalName = "journal."

// appendEntry appends one entry in its written form to b.
func appendEntry(b []byte, k kind, body []byte) []byte {
	return disk.AppendEntry(b, []byte{byte(k)}, body)
}

// parseEntry is the inverse of appendEntry, without the line feed.
func parseEntry(line []byte) (kind, []byte, bool) {
	body, ok := disk.ParseEntry(line)
	if !ok || len(body) == 0 {
		return 0, nil, false
	}
	return kind(body[0]), body[1:], true
}

// open makes the segment behind the newest one. At the very first start it may
// come before the database, which makes the folder too.
func (j *journal) open() error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	f, err := os.OpenFile(j.path(j.seq+1), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	j.f, j.seq, j.size = f, j.seq+1, 0
	return disk.SyncDir(j.dir)
}

func (j *journal) path(seq uint64) string {
	return filepath.Join(j.dir, journalName+strconv.FormatUint(seq, 10))
}

// append writes whole entries at the end. What a full disk took of them is cut
// off again, so that the next append does not stand behind half a line.
func (j *journal) append(b []byte) error {
	if j.f == nil {
		if err := j.open(); err != nil {
			return err
		}
	}
	if n, err := j.f.WriteAt(b, j.size); err != nil {
		if n > 0 {
			err = errors.Join(err, j.f.Truncate(j.size))
		}
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

func (j *journal) sync() error {
	if j.f == nil {
		return nil
	}
	if err := unix.Fdatasync(int(j.f.Fd())); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	return nil
}

// rotate closes the segment and returns its path; the next append makes a new
// one. Without a segment it returns "".
func (j *journal) rotate() (string, error) {
	if j.f == nil {
		return "", nil
	}
	err := j.f.Close()
	j.f = nil
	return j.path(j.seq), err
}

// segments lists what a former run left, oldest first, and sets j.seq so that
// new ones come behind.
func (j *journal) segments() ([]string, error) {
	names, err := segmentPaths(j.dir)
	if len(names) > 0 {
		j.seq = max(j.seq, seqOf(names[len(names)-1]))
	}
	return names, err
}

// segmentPaths lists the segments in dir, oldest first.
func segmentPaths(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, journalName+"*"))
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(seqOf(a), seqOf(b)) })
	return names, nil
}

func seqOf(path string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(filepath.Base(path), journalName), 10, 64)
	return n
}

// readSegment gives the whole entries of a segment to use, in order, and
// returns how many lines were none.
func readSegment(path string, use func(kind, []byte)) (damaged int, err error) {
	b, err := os.ReadFile(path) // at most maxSegment and one batch
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	for line := range bytes.Lines(b) {
		k, body, ok := parseEntry(bytes.TrimSuffix(line, []byte("\n")))
		if !ok {
			damaged++
			continue
		}
		use(k, body)
	}
	return damaged, nil
}

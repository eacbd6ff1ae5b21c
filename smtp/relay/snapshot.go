package relay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"strings"
	"time"
)

// The recipients on disk: a header, a line for each, and a checksum of all
// before it, so that half a file is never taken for a whole one.
//
//	mailweir recipients 1
//	YES LAST DOUBT MAILBOX      times in seconds of Unix time
//	sum CRC32
const snapshotHeader = "mailweir recipients 1\n"

// save writes a snapshot if something changed since the last.
func (c *cache) save(path string) error {
	c.mu.Lock()
	dirty, yes := c.dirty, map[string]entry(nil)
	if dirty {
		yes, c.dirty = maps.Clone(c.yes), false
	}
	c.mu.Unlock()
	if !dirty {
		return nil
	}
	f, err := replaceFile(path, func(w *bufio.Writer) { writeSnapshot(w, yes) })
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		c.mu.Lock()
		c.dirty = true
		c.mu.Unlock()
		return fmt.Errorf("write known recipients: %w; look after the disk under state_dir", err)
	}
	return nil
}

func writeSnapshot(w *bufio.Writer, yes map[string]entry) {
	sum := crc32.NewIEEE()
	line := func(s string) {
		sum.Write([]byte(s))
		w.WriteString(s)
	}
	line(snapshotHeader)
	for key, e := range yes {
		line(fmt.Sprintf("%d %d %d %s\n", e.yes, e.last, e.doubt, key))
	}
	fmt.Fprintf(w, "sum %08x\n", sum.Sum32())
}

// load reads a snapshot. One that is damaged is set aside: without it the
// recipients are asked anew.
func (c *cache) load(path string, now time.Time, log *slog.Logger) error {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read known recipients: %w", err)
	}
	yes, err := readSnapshot(data, now)
	if err != nil {
		log.Error("list of known recipients is damaged and was set aside: each is asked anew, and while a backend is away its recipients get 451",
			"error", err, "kept as", setAside(path, now))
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range yes {
		if len(c.yes) < c.most {
			c.yes[key] = e
		}
	}
	return nil
}

var errSnapshot = errors.New("not a whole list of recipients")

// readSnapshot reads what writeSnapshot wrote, but for what is too old to serve.
func readSnapshot(data []byte, now time.Time) (map[string]entry, error) {
	end := bytes.LastIndex(data, []byte("sum "))
	if end < 0 || !bytes.HasPrefix(data, []byte(snapshotHeader)) ||
		string(data[end:]) != fmt.Sprintf("sum %08x\n", crc32.ChecksumIEEE(data[:end])) {
		return nil, errSnapshot
	}
	yes := make(map[string]entry)
	for line := range strings.Lines(string(data[len(snapshotHeader):end])) {
		var e entry
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(fields) != 4 {
			return nil, errSnapshot
		}
		if _, err := fmt.Sscan(strings.Join(fields[:3], " "), &e.yes, &e.last, &e.doubt); err != nil {
			return nil, fmt.Errorf("%w: %w", errSnapshot, err)
		}
		if now.Sub(time.Unix(e.last, 0)) < yesStale {
			yes[fields[3]] = e
		}
	}
	return yes, nil
}

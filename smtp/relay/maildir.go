package relay

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailweir/disk"
	"mailweir/smtp"
)

// maildir delivers to one maildir, all recipients to the same: it is for
// trying the appliance out, and for catching everything in tests.
type maildir struct {
	dir  string
	host string
}

func newMaildir(dir, host string) *maildir {
	// ":" and "/" would end the unique part of a file name there.
	return &maildir{dir: dir, host: strings.NewReplacer("/", "_", ":", "_").Replace(host)}
}

// deliver writes the message to tmp, syncs it, renames it into new and syncs
// that: a reader never sees half a message, and one that was said to be taken
// outlives a power cut. A crash before the rename leaves a file in tmp, which
// readers of maildirs remove after 36 hours.
func (m *maildir) deliver(ctx context.Context, env smtp.Envelope, body io.Reader) error {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o700); err != nil {
			return fmt.Errorf("make maildir: %w; give our user the right to write there", err)
		}
	}
	name := m.unique(time.Now())
	tmp := filepath.Join(m.dir, "tmp", name)
	if err := writeMail(ctx, tmp, env, body); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, filepath.Join(m.dir, "new", name)); err != nil {
		return fmt.Errorf("move mail into maildir: %w", errors.Join(err, os.Remove(tmp)))
	}
	return disk.SyncDir(filepath.Join(m.dir, "new"))
}

// unique is a name that no other delivery has: 64 random bits in place of the
// counters of old.
func (m *maildir) unique(now time.Time) string {
	return fmt.Sprintf("%d.M%06dP%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), rand.Text()[:13], m.host)
}

// writeMail writes the file, with what a final delivery adds (RFC 5321 section
// 4.4) and the line ends of files.
func writeMail(ctx context.Context, path string, env smtp.Envelope, body io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 64<<10)
	fmt.Fprintf(w, "Return-Path: %s\n", env.From)
	for _, to := range env.To {
		fmt.Fprintf(w, "Delivered-To: %s\n", to)
	}
	if err := copyLines(ctx, w, body); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync mail: %w", err)
	}
	return nil
}

// copyLines copies with LF for CRLF, as maildirs have it.
func copyLines(ctx context.Context, w *bufio.Writer, body io.Reader) error {
	r := bufio.NewReaderSize(body, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadSlice('\n')
		if n := len(line); err == nil && n >= 2 && line[n-2] == '\r' {
			line = append(line[:n-2], '\n')
		} else if errors.Is(err, bufio.ErrBufferFull) && line[n-1] == '\r' {
			// The LF may come with the next piece.
			if err := r.UnreadByte(); err == nil {
				line = line[:n-1]
			}
		}
		if _, werr := w.Write(line); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// inMaildir says what came of a delivery there, in the words of a server.
func (b *Backend) inMaildir(ctx context.Context, p parcel) result {
	r := result{backend: b, stage: AtBody, meaning: Taken, reply: okReply, taken: p.to}
	_, err := p.body.Seek(0, io.SeekStart)
	if err == nil {
		p.env.To = p.to
		err = b.maildir.deliver(ctx, p.env, p.body)
	}
	if err != nil {
		return result{backend: b, stage: AtBody, meaning: Away, err: err}
	}
	return r
}

package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
)

// everyone is the oracle of recipients = "any".
type everyone struct{ live *directory }

func (e everyone) Verify(ctx context.Context, to address.Mailbox) smtp.Answer {
	if e.live.cache.doubts(to) {
		return e.live.verifyLive(ctx, to)
	}
	return smtp.Answer{State: smtp.Any, Age: smtp.Live}
}

// listed is the oracle of recipients = "file:PATH".
type listed struct {
	list *List
	live *directory
}

func (l listed) Verify(ctx context.Context, to address.Mailbox) smtp.Answer {
	if !l.list.Has(to) {
		return unknown(smtp.Live)
	}
	if l.live.cache.doubts(to) {
		return l.live.verifyLive(ctx, to)
	}
	return smtp.Answer{State: smtp.Valid, Age: smtp.Live}
}

// Recall implements smtp.Recaller: by the file, but for whom the backend refuses.
func (l listed) Recall(to address.Mailbox) (smtp.Answer, bool) {
	switch {
	case !l.list.Has(to):
		return unknown(smtp.Live), true
	case l.live.cache.doubts(to):
		return l.live.Recall(to)
	}
	return smtp.Answer{State: smtp.Valid, Age: smtp.Live}, true
}

// List is the recipients of a file, read again when it changes.
//
// The file has one recipient a line: an address, or a local part alone, which
// then counts in the domain that the file is given for. What follows a first
// word is left out, so Postfix's maps can be used as they are; so are empty
// lines and those that begin with #. Case does not count, and "joe" is not
// "joe+news": list both if the backend takes both.
//
// A file that vanished, cannot be read, has a line that is no recipient, or has
// become empty changes nothing: the last good list stays in use, and Problem
// tells. Replace the file by renaming a new one over it; one that is written in
// place is read once it is a second old.
type List struct {
	path   string
	domain string

	mu      sync.Mutex
	checked time.Time
	stamp   stamp
	names   map[string]struct{}
	problem string
}

// stamp tells whether a file is still the same.
type stamp struct {
	size  int64
	mtime time.Time
	inode uint64
}

const (
	listCheck   = time.Second
	maxListSize = 256 << 20
)

// OpenList reads the recipients of domain from path.
func OpenList(path, domain string) (*List, error) {
	l := &List{path: path, domain: domain}
	now := time.Now()
	if err := l.load(now); err != nil {
		return nil, fmt.Errorf("read recipients of %s: %w", domain, err)
	}
	l.checked = now
	return l, nil
}

// Has says whether to is on the list.
func (l *List) Has(to address.Mailbox) bool {
	l.refresh()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.names[keyOf(to)]
	return ok
}

// Problem says why the list in use is not the file as it is; "" if it is.
func (l *List) Problem() string {
	l.refresh()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.problem
}

// Len is the number of recipients in use.
func (l *List) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.names)
}

// refresh reads the file again if it has changed, at most once a second.
func (l *List) refresh() {
	now := time.Now()
	l.mu.Lock()
	due := now.Sub(l.checked) >= listCheck
	if due {
		l.checked = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	err := l.load(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, errYoung):
	case err == nil:
		l.problem = ""
	default:
		l.problem = fmt.Sprintf("%v; the list read before stays in use", err)
	}
}

// errYoung says that a file may still be being written.
var errYoung = errors.New("the file has just changed")

// load reads the file unless it is the one that was read last.
func (l *List) load(now time.Time) error {
	info, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	s := stamp{info.Size(), info.ModTime(), inode(info)}
	l.mu.Lock()
	same, first := s == l.stamp, l.names == nil
	l.mu.Unlock()
	if same {
		return nil
	}
	if age := now.Sub(s.mtime); !first && age >= 0 && age < listCheck {
		return errYoung
	}
	if s.size > maxListSize {
		return fmt.Errorf("%s is larger than %d MiB; that is no list of recipients", l.path, maxListSize>>20)
	}
	data, err := os.ReadFile(l.path)
	if err != nil {
		return err
	}
	names, err := parseList(l.path, data, l.domain)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names, l.stamp = names, s
	return nil
}

// parseList reads the format that List describes.
func parseList(path string, data []byte, domain string) (map[string]struct{}, error) {
	names := make(map[string]struct{})
	scan := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		to, err := parseEntry(line, domain)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w; write one address or local part a line", path, n, err)
		}
		names[keyOf(to)] = struct{}{}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no recipients: everybody would be refused; list at least postmaster", path)
	}
	return names, nil
}

func parseEntry(line, domain string) (address.Mailbox, error) {
	word := line
	if line[0] != '"' {
		word, _, _ = strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
	}
	to, err := address.ParseMailbox(word, true)
	var bad *address.Error
	if errors.As(err, &bad) && bad.Kind == address.Unqualified {
		return address.ParseMailbox(word+"@"+domain, true)
	}
	return to, err
}

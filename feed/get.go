package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"mailweir/prefix"
)

const (
	// patience is how long a fetch may take in all.
	patience = time.Minute
	// perEntry is how many bytes there may be for each entry that may be: a line of
	// JSON with its names.
	perEntry  = 256
	redirects = 3
	// unreachable begins what is wrong with the way to a source.
	unreachable = "it cannot be fetched: "
)

// got is what a fetch brought.
type got struct {
	same           bool // as before
	set            *prefix.Set
	etag, modified string
}

// NewClient is a client for feeds: its connections are made by dial, and it goes
// where it is sent only a few times, and never from https to http.
func NewClient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 20 * time.Second,
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > redirects {
				return errors.New("it leads from one place to the next")
			}
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("it leads away from https")
			}
			return nil
		},
	}
}

// get reads the source, unless it is as before. anew reads it in any case.
func (f *Feed) get(ctx context.Context, before kept, anew bool) (got, error) {
	if anew {
		before = kept{}
	}
	if isFile(f.o.Source) {
		return f.read(before)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.Source, nil)
	if err != nil {
		return got{}, err
	}
	r.Header.Set("User-Agent", "mailweir")
	if before.ETag != "" {
		r.Header.Set("If-None-Match", before.ETag)
	}
	if before.Modified != "" {
		r.Header.Set("If-Modified-Since", before.Modified)
	}
	a, err := f.o.Client.Do(r)
	if err != nil {
		return got{}, fmt.Errorf("%s%w", unreachable, err)
	}
	defer a.Body.Close()
	switch {
	case a.StatusCode == http.StatusNotModified && len(before.Prefixes) > 0:
		return got{same: true}, nil
	case a.StatusCode != http.StatusOK:
		return got{}, fmt.Errorf("%sthe server says %s", unreachable, a.Status)
	case strings.HasPrefix(a.Header.Get("Content-Type"), "text/html"):
		return got{}, errors.New("it is a page of HTML and no list")
	}
	set, err := f.parse(a.Body)
	return got{set: set, etag: a.Header.Get("ETag"), modified: a.Header.Get("Last-Modified")}, err
}

func isFile(source string) bool { return strings.HasPrefix(source, "/") }

// read reads a file. It is whole when it is put there by a rename, as is usual.
func (f *Feed) read(before kept) (got, error) {
	if info, err := os.Stat(f.o.Source); err == nil && !info.Mode().IsRegular() {
		return got{}, errors.New("it is no file: a pipe would hold everybody up who reads it")
	}
	file, err := os.Open(f.o.Source)
	if err != nil {
		return got{}, fmt.Errorf("%s%w (the user of the mail role has to read it)", unreachable, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return got{}, err
	}
	modified := fmt.Sprintf("%d %d", info.ModTime().UnixNano(), info.Size())
	if modified == before.Modified {
		return got{same: true}, nil
	}
	set, err := f.parse(file)
	return got{set: set, modified: modified}, err
}

// parse takes no more than a list may have, and nothing of one that is cut off.
func (f *Feed) parse(r io.Reader) (*prefix.Set, error) {
	b := &bounded{from: r, most: int64(f.o.MaxEntries) * perEntry}
	list, err := Parse(b, f.o.MaxEntries)
	switch {
	case b.err != nil:
		return nil, fmt.Errorf("%sit is cut off after %d bytes: %w", unreachable, b.n, b.err)
	case b.n > b.most:
		return nil, fmt.Errorf("it has more than %d bytes, which is no list of %d entries: see feed.%s.max_entries", b.most, f.o.MaxEntries, f.o.Name)
	case errors.Is(err, errTooMany):
		return nil, fmt.Errorf("it has more than %d entries: see feed.%s.max_entries", f.o.MaxEntries, f.o.Name)
	case err != nil:
		return nil, fmt.Errorf("it is no list: %w", err)
	}
	return prefix.New(list), nil
}

// bounded ends behind so many bytes, and one more that says that there are more.
type bounded struct {
	from    io.Reader
	n, most int64
	err     error // other than the end
}

func (b *bounded) Read(p []byte) (int, error) {
	left := b.most + 1 - b.n
	if left <= 0 {
		return 0, io.EOF
	}
	n, err := b.from.Read(p[:min(int64(len(p)), left)])
	b.n += int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

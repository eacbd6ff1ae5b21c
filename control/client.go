package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Client asks a role. It is safe for concurrent use.
type Client struct {
	path string
	role string
	http http.Client
}

// NewClient makes a client of the socket at path. role is the word for the
// other end in messages, such as "guard".
func NewClient(path, role string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		if err := ledAway(path, conn); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	return &Client{path: path, role: role, http: http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}}
}

// ledAway is an error when the folder of a socket is not root's, and somebody
// else than its owner listens. Whoever took the mail role over may put a link in
// the place of its socket, and would have root ask others in its name.
func ledAway(path string, conn net.Conn) error {
	var folder unix.Stat_t
	u, ok := conn.(*net.UnixConn)
	if err := unix.Stat(filepath.Dir(path), &folder); err != nil || !ok || folder.Uid == 0 {
		return err
	}
	cred, err := PeerCredentials(u)
	if err == nil && cred.Uid != folder.Uid {
		err = fmt.Errorf("%s leads to a process of user %s, and its folder is of user %s", path, userName(cred.Uid), userName(folder.Uid))
	}
	return err
}

// What is read of an answer, and of one item of a stream. A command often runs
// as root, and whoever took over the mail role, which talks to strangers, must
// not be able to take the machine's memory by it. Values are bounded too: an
// empty object is three bytes, and hundreds where it is read into.
const (
	maxAnswer = 64 << 20
	maxItem   = 16 << 20
	maxValues = 1 << 18
)

var (
	errTooMuch = errors.New("it is longer than any true one")
	errTooMany = errors.New("it has more values than any true one")
)

// bounded is a reader of so much JSON.
type bounded struct {
	r       io.Reader
	left    int
	values  int  // may still come
	text    bool // within a string
	escaped bool
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooMuch
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	for _, c := range p[:n] {
		b.count(c)
	}
	if b.values < 0 {
		return 0, errTooMany
	}
	return n, err
}

// count counts what each value but the first of a list or object begins behind.
func (b *bounded) count(c byte) {
	switch {
	case b.escaped:
		b.escaped = false
	case b.text && c == '\\':
		b.escaped = true
	case c == '"':
		b.text = !b.text
	case !b.text && (c == ',' || c == '[' || c == '{'):
		b.values--
	}
}

// Do sends in and reads the answer into out. in is written as JSON, but an
// io.Reader goes as it is and nil sends nothing; nil for out drops the answer.
// Every error is, or wraps, an *Error, unless ctx ended.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	body, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(&bounded{r: body, left: maxAnswer, values: maxValues}).Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// Stream sends in and calls each for every item of the answer, until there are
// no more or each returns an error.
func (c *Client) Stream(ctx context.Context, method, path string, in any, each func(item json.RawMessage) error) error {
	body, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	rest := &bounded{r: body}
	d := json.NewDecoder(rest)
	for {
		rest.left, rest.values = maxItem, maxValues
		var l line
		switch err := d.Decode(&l); {
		case errors.Is(err, io.EOF):
			return c.broken(ctx, io.ErrUnexpectedEOF)
		case err != nil:
			return c.broken(ctx, err)
		case l.Err != nil:
			return l.Err
		case l.End:
			return nil
		}
		if err := each(l.Item); err != nil {
			return err
		}
	}
}

func (c *Client) send(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	body, err := encode(in)
	if err != nil {
		return nil, err
	}
	// The name of the host is never looked up: the transport dials the socket.
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.role+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, c.readError(resp)
	}
	return resp.Body, nil
}

func encode(in any) (io.Reader, error) {
	switch in := in.(type) {
	case nil:
		return nil, nil
	case io.Reader:
		return in, nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return bytes.NewReader(b), nil
}

// readError reads what writeError wrote. A role of another release may answer
// 404 in its own words.
func (c *Client) readError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxRequest))
	e := new(Error)
	if json.Unmarshal(b, e) == nil && e.Message != "" {
		return e
	}
	return Refusef("%s answers %s %s (is it of another release than this command? restart it)",
		c.role, resp.Status, strings.TrimSpace(string(b)))
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return &Error{Class: NotRunning, Message: fmt.Sprintf(
			"%s is not running: nobody answers at %s (start it with `weir run`, or name the right --run-dir)", c.role, c.path)}
	case errors.Is(err, fs.ErrPermission):
		return Refusef("%s may not be used by this user: run the command as root", c.path)
	}
	return c.broken(ctx, err)
}

func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return Refusef("%s broke off its answer: %v (see its log)", c.role, err)
}

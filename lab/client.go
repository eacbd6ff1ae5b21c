package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Client is one SMTP connection, spoken by hand, line by line: what a test
// wants to see said is said, and nothing else.
type Client struct {
	Helo string // how Deliver introduces itself
	conn *net.TCPConn
	in   *bufio.Reader
	// Transcript is everything said so far, "C: " and "S: " before each line.
	Transcript []string
}

// A Reply is a server's reply (RFC 5321 section 4.2).
type Reply struct {
	Code  int
	Lines []string // without code
}

// String is the reply's last line as it was on the wire.
func (r Reply) String() string {
	if len(r.Lines) == 0 {
		return strconv.Itoa(r.Code)
	}
	return strconv.Itoa(r.Code) + " " + r.Lines[len(r.Lines)-1]
}

// SMTP connects from one of the host's addresses (the zero address: any) and
// reads the greeting.
func (h *Host) SMTP(ctx context.Context, from netip.Addr, to netip.AddrPort) (*Client, Reply, error) {
	conn, err := h.DialFrom(ctx, from, to)
	if err != nil {
		return nil, Reply{}, err
	}
	c := &Client{Helo: h.Name + ".example", conn: conn, in: bufio.NewReader(conn)}
	greeting, err := c.read()
	if err != nil {
		conn.Close()
		return nil, Reply{}, fmt.Errorf("read the greeting of %s: %w", to, err)
	}
	return c, greeting, nil
}

// patience bounds the wait for a reply: longer than any server here waits.
const patience = 30 * time.Second

// Cmd sends a line and reads the reply.
func (c *Client) Cmd(format string, args ...any) (Reply, error) {
	line := fmt.Sprintf(format, args...)
	c.Transcript = append(c.Transcript, "C: "+line)
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return Reply{}, err
	}
	return c.read()
}

// Send writes a message after DATA was answered 354: body with CRLF line ends,
// its dots stuffed here (RFC 5321 section 4.5.2), and the final dot.
func (c *Client) Send(body string) (Reply, error) {
	stuffed := strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n..")[2:]
	if !strings.HasSuffix(stuffed, "\r\n") {
		stuffed += "\r\n"
	}
	c.Transcript = append(c.Transcript, fmt.Sprintf("C: (%d bytes)", len(body)), "C: .")
	if _, err := c.conn.Write([]byte(stuffed + ".\r\n")); err != nil {
		return Reply{}, err
	}
	return c.read()
}

// Deliver sends one message and returns the reply that decided it: the one to
// the final dot, or the first that was not positive.
func (c *Client) Deliver(from string, to []string, body string) (Reply, error) {
	lines := []string{"EHLO " + c.Helo, "MAIL FROM:<" + from + ">"}
	for _, rcpt := range to {
		lines = append(lines, "RCPT TO:<"+rcpt+">")
	}
	for _, line := range append(lines, "DATA") {
		r, err := c.Cmd("%s", line)
		if err != nil || r.Code >= 400 {
			return r, err
		}
	}
	return c.Send(body)
}

// Close ends the connection without a word.
func (c *Client) Close() error { return c.conn.Close() }

// Conn is the connection below, for those who break the rules.
func (c *Client) Conn() *net.TCPConn { return c.conn }

func (c *Client) read() (Reply, error) {
	var r Reply
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return r, err
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return r, err
		}
		line = strings.TrimRight(line, "\r\n")
		c.Transcript = append(c.Transcript, "S: "+line)
		if len(line) < 3 {
			return r, fmt.Errorf("read a reply: %q is none", line)
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil {
			return r, fmt.Errorf("read a reply: %q is none", line)
		}
		r.Code = code
		if len(line) < 4 {
			return r, nil
		}
		r.Lines = append(r.Lines, line[4:])
		if line[3] != '-' {
			return r, nil
		}
	}
}

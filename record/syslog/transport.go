package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// transport is a way to a target.
type transport struct {
	name string
	dial func(ctx context.Context) (*link, error)
	// write is the form of one message in which it waits; frame appends that as
	// it goes over this transport.
	write func(h *Header, m *Message, seq uint32) []byte
	frame func(b, text []byte) []byte
	// batch is how many messages one write may take.
	batch int
}

// link is one connection to a target.
type link struct {
	io.WriteCloser
	gone    <-chan struct{} // closed when the other end hangs up; nil where that cannot be seen
	written func() int64    // bytes so far
	arrived func() int64    // of those, as far as can be known
}

// plain is a link of which nothing is known but that the kernel took what was
// written.
func plain(w io.WriteCloser) *link {
	none := func() int64 { return 0 }
	return &link{WriteCloser: w, written: none, arrived: none}
}

// rfc5424 is the form of all but standard error.
func rfc5424(h *Header, m *Message, seq uint32) []byte { return h.Append(nil, m, seq) }

// datagram is one message as it is.
func datagram(b, text []byte) []byte { return append(b, text...) }

const (
	dialTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
)

// open finds the transport of a target.
func open(target, caFile string) (transport, error) {
	u, err := url.Parse(target)
	if err != nil {
		return transport{}, fmt.Errorf("read syslog target %q: %w", target, err)
	}
	switch {
	case u.Scheme == "unix" && u.Path != "":
		return local(u.Path), nil
	case u.Scheme == "udp" && u.Host != "":
		return udp(target, u.Host), nil
	case u.Scheme == "tcp" && u.Host != "":
		return stream(target, u.Host, nil), nil
	case u.Scheme == "tls" && u.Host != "":
		conf, err := tlsConfig(u.Hostname(), caFile)
		return stream(target, u.Host, conf), err
	}
	return transport{}, fmt.Errorf("syslog target %q: use udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///dev/log", target)
}

// tlsConfig checks the collector's certificate against the name in the target
// (RFC 5425 section 5.2) and the CAs of caFile, or of the system.
func tlsConfig(name, caFile string) (*tls.Config, error) {
	conf := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read CA of syslog target: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA of syslog target: no certificate in %s", caFile)
	}
	return conf, nil
}

func stream(name, addr string, conf *tls.Config) transport {
	return transport{
		name: name, batch: 64, write: rfc5424, frame: countOctets,
		dial: func(ctx context.Context) (*link, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			tcp, err := (&net.Dialer{Control: giveUpSoon}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			below := &counted{Conn: tcp}
			c := net.Conn(below)
			if conf != nil {
				over := tls.Client(below, conf)
				if err := over.HandshakeContext(ctx); err != nil {
					tcp.Close()
					return nil, err
				}
				c = over
			}
			return &link{WriteCloser: deadlined{c}, gone: watch(c), written: below.written.Load, arrived: below.arrived}, nil
		},
	}
}

// counted counts what is written to a TCP connection, and what of it the other
// end's kernel has.
type counted struct {
	net.Conn
	written atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// arrived is what is written but for what is not acknowledged (SIOCOUTQ, tcp(7)).
func (c *counted) arrived() int64 {
	n := c.written.Load()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0
	}
	var left int
	var inner error
	if err := raw.Control(func(fd uintptr) { left, inner = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || inner != nil {
		return 0
	}
	return n - int64(left)
}

// giveUpSoon bounds how long the kernel holds unanswered data, so that a
// collector that vanished without a word is noticed.
func giveUpSoon(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(2*writeTimeout/time.Millisecond))
	}), err)
}

// watch reads what a collector never sends, to see it hang up: a write into
// the broken connection would still be taken, and lost.
func watch(c net.Conn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, c)
	}()
	return gone
}

// udp sends a message a datagram (RFC 5426). All that is ever heard of one that
// did not arrive is that nobody listens there (ICMP, RFC 1122 section 4.1.3.3):
// what was sent shortly before is sent again then.
func udp(name, addr string) transport {
	return transport{
		name: name, batch: 1, write: rfc5424, frame: datagram,
		dial: func(ctx context.Context) (*link, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
			if err != nil {
				return nil, err
			}
			below := &counted{Conn: c}
			quiet := settled{written: below.written.Load, since: time.Now()}
			return &link{WriteCloser: deadlined{below}, gone: watch(c), written: below.written.Load, arrived: quiet.arrived}, nil
		},
	}
}

// settled takes bytes for arrived when nobody complained for a while.
type settled struct {
	written     func() int64
	since       time.Time
	last, quiet int64
}

func (s *settled) arrived() int64 {
	const complaint = 200 * time.Millisecond // of a host far away
	if now := time.Now(); now.Sub(s.since) >= complaint {
		s.since, s.quiet, s.last = now, s.last, s.written()
	}
	return s.quiet
}

// local is a datagram socket such as /dev/log.
func local(path string) transport {
	return transport{
		name: "unix://" + path, batch: 1, write: rfc5424, frame: datagram,
		dial: func(ctx context.Context) (*link, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "unixgram", path)
			if err != nil {
				return nil, err
			}
			return plain(deadlined{c}), nil
		},
	}
}

// countOctets is the framing of RFC 6587 section 3.4.1 and RFC 5425 section
// 4.3.
func countOctets(b, text []byte) []byte {
	b = strconv.AppendInt(b, int64(len(text)), 10)
	return append(append(b, ' '), text...)
}

// deadlined gives each write its time.
type deadlined struct{ net.Conn }

func (d deadlined) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}

// console writes readable lines to w. Under a journal they begin with the
// severity in its own form (sd-daemon(3)), else with the time.
func console(w io.Writer, journal bool) transport {
	return transport{
		name: "standard error", batch: 64, frame: datagram,
		dial: func(context.Context) (*link, error) { return plain(keptOpen{w}), nil },
		write: func(_ *Header, m *Message, _ uint32) (b []byte) {
			if journal {
				b = fmt.Appendf(b, "<%d>", m.Severity)
			} else {
				b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z ")
			}
			return append(appendReadable(b, m), '\n')
		},
	}
}

// toJournal says whether w is the stream that systemd's journal reads, as
// systemd.exec(5) asks to find out.
func toJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

type keptOpen struct{ io.Writer }

func (keptOpen) Close() error { return nil }

// appendReadable writes kind (unless the text begins with it), text and
// name=value for each value that is not empty.
func appendReadable(b []byte, m *Message) []byte {
	if kind := strings.ToLower(m.ID) + ": "; !strings.HasPrefix(m.Text, kind) {
		b = append(b, kind...)
	}
	b = appendText(b, m.Text)
	for _, p := range m.Params {
		if p.Value == "" {
			continue
		}
		b = append(b, " "+p.Name+"="...)
		v := appendText(nil, p.Value)
		if bytes.ContainsAny(v, " \"=") {
			b = strconv.AppendQuote(b, string(v))
		} else {
			b = append(b, v...)
		}
	}
	return b
}

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// transport is a way to a target.
type transport struct {
	name string
	// dial connects; gone is closed when the other end hangs up, and nil where
	// that cannot be seen.
	dial func(ctx context.Context) (w io.WriteCloser, gone <-chan struct{}, err error)
	// frame appends one message as it goes over this transport.
	frame func(b []byte, h *Header, m *Message, seq uint32) []byte
	// batch is how many messages one write may take.
	batch int
}

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
	case u.Scheme == "tcp" && u.Host != "":
		return stream(target, u.Host, nil), nil
	case u.Scheme == "tls" && u.Host != "":
		conf, err := tlsConfig(u.Hostname(), caFile)
		return stream(target, u.Host, conf), err
	}
	return transport{}, fmt.Errorf("syslog target %q: use tcp://HOST:PORT, tls://HOST:PORT or unix:///dev/log", target)
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
		name: name, batch: 64, frame: countOctets,
		dial: func(ctx context.Context) (io.WriteCloser, <-chan struct{}, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			dialer := &net.Dialer{Control: giveUpSoon}
			var c net.Conn
			var err error
			if conf == nil {
				c, err = dialer.DialContext(ctx, "tcp", addr)
			} else {
				c, err = (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, "tcp", addr)
			}
			if err != nil {
				return nil, nil, err
			}
			return deadlined{c}, watch(c), nil
		},
	}
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

// local is a datagram socket such as /dev/log.
func local(path string) transport {
	return transport{
		name: "unix://" + path, batch: 1,
		frame: func(b []byte, h *Header, m *Message, seq uint32) []byte { return h.Append(b, m, seq) },
		dial: func(ctx context.Context) (io.WriteCloser, <-chan struct{}, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "unixgram", path)
			if err != nil {
				return nil, nil, err
			}
			return deadlined{c}, nil, nil
		},
	}
}

// countOctets is the framing of RFC 6587 section 3.4.1 and RFC 5425 section
// 4.3.
func countOctets(b []byte, h *Header, m *Message, seq uint32) []byte {
	text := h.Append(nil, m, seq)
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
		name: "standard error", batch: 64,
		dial: func(context.Context) (io.WriteCloser, <-chan struct{}, error) { return keptOpen{w}, nil, nil },
		frame: func(b []byte, _ *Header, m *Message, _ uint32) []byte {
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

// appendReadable writes kind, text and name=value for each value that is not
// empty.
func appendReadable(b []byte, m *Message) []byte {
	b = append(b, strings.ToLower(m.ID)+": "...)
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

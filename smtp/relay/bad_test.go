package relay

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// odd is a server that a test writes by hand.
func odd(serve func(net.Conn)) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			serve(theirs)
			theirs.Close()
		}()
		return ours, nil
	}
}

// listen reads and throws away, so that nobody waits to write.
func listen(c net.Conn) {
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// slowly writes one byte a second.
func slowly(c net.Conn, s string) {
	for i := range len(s) {
		if _, err := c.Write([]byte{s[i]}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// TestBadBackends: whatever a backend does, everybody gets an answer in time,
// it is a temporary one, and it counts against nobody (issue "Bad input").
func TestBadBackends(t *testing.T) {
	say := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			if _, err := c.Write([]byte(s)); err == nil {
				listen(c)
			}
		}
	}
	cut := func(s string) func(net.Conn) {
		return func(c net.Conn) { c.Write([]byte(s)) }
	}
	hello := "220 mx.fake.example\r\n"
	tests := []struct {
		name   string
		serve  func(net.Conn)
		reason reply.Reason
	}{
		{"nothing", listen, reply.OracleAway},
		{"closes at once", func(net.Conn) {}, reply.OracleAway},
		{"nonsense", say("SSH-2.0-OpenSSH_9.2\r\n"), reply.OracleAway},
		{"web server", say("HTTP/1.1 400 Bad Request\r\n\r\n"), reply.OracleAway},
		{"TLS alert", say("\x15\x03\x01\x00\x02\x02\x46"), reply.OracleAway},
		{"half a line", say("220 mx.fa"), reply.OracleAway},
		{"half a line, closes", cut("220 mx.fa"), reply.OracleAway},
		{"endless line", func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("220 x")); err != nil {
					return
				}
			}
		}, reply.OracleAway},
		{"endless lines", func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("220-x\r\n")); err != nil {
					return
				}
			}
		}, reply.OracleAway},
		{"codes that differ", say("220-a\r\n250 b\r\n"), reply.OracleAway},
		{"421 at greeting", say("421 4.3.2 shutting down\r\n"), reply.OracleAway},
		{"421 too many", say("421 4.7.0 Too many connections\r\n"), reply.OracleAway},
		{"554 at greeting", say("554 5.7.1 no\r\n"), reply.MisconfiguredBackend},
		{"one byte a second", func(c net.Conn) { go listen(c); slowly(c, hello+strings.Repeat("250-x\r\n", 100)) }, reply.OracleAway},
		{"closes after EHLO", func(c net.Conn) { c.Write([]byte(hello)); c.Read(make([]byte, 100)) }, reply.OracleAway},
		{"unknown user at greeting", say("550 5.1.1 User unknown\r\n"), reply.MisconfiguredBackend},
		{"answers too much", func(c net.Conn) { go listen(c); c.Write([]byte(hello + hello + hello + hello)) }, reply.OracleAway},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, err := NewBackend(BackendOptions{
					Name: "bad", URL: URL{Scheme: "smtp", Network: "tcp", Host: "bad.internal", Port: "25"},
					TLS: TLSOff, Hostname: "edge.example", Dial: odd(c.serve),
				})
				if err != nil {
					t.Fatal(err)
				}
				r := &rig{t: t, backend: []*Backend{b}}
				r.start("backend", "")
				defer time.Sleep(time.Minute) // the server notices
				defer r.stop()
				begun := time.Now()
				a := r.verify("u1")
				if a.State != smtp.Unavailable || !a.Reply.Transient() || a.Reason != c.reason {
					t.Errorf("answer %+v", a)
				}
				if took := time.Since(begun); took > 15*time.Second {
					t.Errorf("a stranger waited %v", took)
				}
				got := r.send("hello\r\n", "u1")
				if !got.Reply.Transient() {
					t.Errorf("receipt %+v", got)
				}
				if took := time.Since(begun); took > 3*time.Minute {
					t.Errorf("all took %v", took)
				}
			})
		})
	}
}

// TestStallsInTheMessage: a backend that stops reading is given up in bounded
// time, and what it has seen is no message.
func TestStallsInTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBackend(BackendOptions{
			Name: "bad", URL: URL{Scheme: "smtp", Network: "tcp", Host: "bad.internal", Port: "25"}, TLS: TLSOff, Hostname: "edge.example",
			Dial: odd(func(c net.Conn) {
				buf := make([]byte, 4096)
				for _, s := range []string{"220 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "354 x\r\n"} {
					if _, err := c.Write([]byte(s)); err != nil {
						return
					}
					c.Read(buf)
				}
				time.Sleep(time.Hour)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, backend: []*Backend{b}}
		r.start("any", "")
		begun := time.Now()
		got := r.sendWithin(time.Hour, strings.Repeat("x", 1<<20)+"\r\n", "u1")
		if got.Reply.Code != 451 || time.Since(begun) > 5*time.Minute {
			t.Errorf("after %v: %+v", time.Since(begun), got)
		}
		r.stop()
		time.Sleep(2 * time.Hour)
	})
}

package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// scripted is a backend on a socket of the kernel, where what one end writes can
// be read at once at the other. serve answers each line; after the answer to
// DATA it gets those of the message.
func scripted(t *testing.T, secure *tls.Config, serve func(w net.Conn, line string)) *rig {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		var ends [2]net.Conn
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "pair")
			if ends[i], err = net.FileConn(f); err != nil {
				return nil, err
			}
			f.Close()
		}
		go func() {
			theirs := ends[1]
			if secure != nil {
				theirs = tls.Server(theirs, secure)
			}
			defer theirs.Close()
			serve(theirs, "")
			for in := bufio.NewScanner(theirs); in.Scan(); {
				serve(theirs, in.Text())
			}
		}()
		return ends[0], nil
	}
	o := BackendOptions{Name: "odd", URL: URL{Scheme: "smtp", Network: "tcp", Host: "odd.internal", Port: "25"}, TLS: TLSOff, Hostname: "edge.example", Dial: dial}
	if secure != nil {
		o.URL.Scheme, o.TLS = "smtps", TLSOpportunistic
	}
	b, err := NewBackend(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, backend: []*Backend{b}}
	r.start("backend", "")
	t.Cleanup(r.stop)
	return r
}

// usual is what a server with u1 and u2 answers.
func usual(line string) string {
	verb, _, _ := strings.Cut(line, " ")
	switch {
	case line == "":
		return "220 mx.odd.example ESMTP\r\n"
	case verb == "EHLO":
		return "250-mx.odd.example\r\n250 PIPELINING\r\n"
	case verb == "RCPT" && !strings.HasPrefix(line, "RCPT TO:<u"):
		return "550 5.1.1 User unknown\r\n"
	case verb == "DATA":
		return "354 go on\r\n"
	}
	return "250 2.0.0 ok\r\n"
}

func eachTransport(t *testing.T, f func(t *testing.T, secure *tls.Config)) {
	t.Run("clear", func(t *testing.T) { f(t, nil) })
	t.Run("TLS", func(t *testing.T) {
		cert, _ := certificate(t, "odd.internal")
		f(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	})
}

// An answer that comes late, while the connection rests, is not that of the
// next command: else each answer would be that of the one before, and an unknown
// user would be as good as MAIL.
func TestLateAnswerIsNobodysElse(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure *tls.Config) {
		stray := make(chan bool, 1)
		r := scripted(t, secure, func(w net.Conn, line string) {
			w.Write([]byte(usual(line)))
			if strings.HasPrefix(line, "RCPT TO:<u1@") {
				// Later than the answers that were asked for have been read.
				time.AfterFunc(20*time.Millisecond, func() {
					w.Write([]byte("250 2.0.0 once more\r\n"))
					stray <- true
				})
			}
		})
		// The domain is known to tell recipients apart, and probes no more.
		b := r.backend[0]
		if f := b.recipient(t.Context(), box("u1"), true); f.meaning != Taken {
			t.Fatalf("u1 is %s: %s", f.meaning, f.words())
		}
		<-stray
		if f := b.recipient(t.Context(), box("nobody"), true); f.meaning != UnknownUser {
			t.Errorf("nobody is %s: %s", f.meaning, f.words())
		}
	})
}

// One answer too many among those of a pipeline does not make an unknown user
// good either, in however many pieces they come.
func TestOneAnswerTooManyInAPipeline(t *testing.T) {
	eachTransport(t, func(t *testing.T, secure *tls.Config) {
		for _, once := range []bool{true, false} {
			r := scripted(t, secure, func(w net.Conn, line string) {
				said := usual(line)
				if strings.HasPrefix(line, "MAIL") {
					said += said
				}
				if once {
					w.Write([]byte(said))
					return
				}
				for i := range len(said) {
					w.Write([]byte{said[i]})
				}
			})
			if f := r.backend[0].recipient(t.Context(), box("nobody"), true); f.meaning != Away {
				t.Errorf("nobody is %s: %s", f.meaning, f.words())
			}
		}
	})
}

// An answer in the middle of a message is no word for it when it says yes, and
// is one when it says no.
func TestAnswerBeforeTheFinalDot(t *testing.T) {
	for said, want := range map[string]int{"250 2.0.0 ok": 451, "552 5.3.4 too big": 552} {
		eachTransport(t, func(t *testing.T, secure *tls.Config) {
			inData := false
			r := scripted(t, secure, func(w net.Conn, line string) {
				switch {
				case line == "middle":
					w.Write([]byte(said + "\r\n"))
				case line == ".":
					inData = false
					w.Write([]byte("554 5.6.0 not this one\r\n"))
				case !inData:
					inData = strings.HasPrefix(line, "DATA")
					w.Write([]byte(usual(line)))
				}
			})
			// More than the sockets hold: the end is sent after the middle was read.
			got := r.send("middle\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<16), "u1")
			if got.Reply.Code != want {
				t.Errorf("%q in the middle: %+v", said, got)
			}
		})
	}
}

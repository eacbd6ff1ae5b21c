package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// instant is an Oracle and Deliverer that costs nothing: what is measured is
// the edge itself.
type instant struct{}

func (instant) Verify(_ context.Context, to address.Mailbox) smtp.Answer {
	if to.Local == "alice" {
		return smtp.Answer{State: smtp.Valid, Age: smtp.Cached}
	}
	return smtp.Answer{State: smtp.Unknown, Age: smtp.Cached, Reason: reply.UnknownUser, Reply: reply.UnknownUser.Reply()}
}

func (instant) Deliver(_ context.Context, _ smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return smtp.Receipt{Reply: reply.Internal.Reply(), Reason: reply.Internal}
	}
	return smtp.Receipt{Reply: reply.Reply{Code: 250}, Backend: "instant"}
}

// forget is a Recorder that keeps nothing.
type forget struct{ smtp.Recorder }

func (forget) Announce(context.Context, smtp.Transaction) {}
func (forget) Record(smtp.Transaction)                    {}

func benchWorld(b *testing.B) *world {
	return newWorld(b, func(w *world) {
		w.opts.Recorder = forget{}
		w.opts.Policy.MaxConnections = 20_000
		w.opts.Policy.PerSource = smtp.PerSource{Open: 100_000, NewPerMinute: 1 << 30}
		w.opts.Policy.TLS = selfSigned(b)
		w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: instant{}, Deliverer: instant{}}}
	})
}

// BenchmarkIdle prints what an idle connection holds of our memory: 10,000 of
// them from 1,000 addresses. The clients are a process of their own, so that
// heap and file descriptors are the server's alone.
func BenchmarkIdle(b *testing.B) {
	const message = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@office.example>\r\nDATA\r\n"
	ehlo := "EHLO client.example\r\n"
	for _, c := range []struct{ name, say, last string }{
		{"greeted", "", "220 "},
		{"after EHLO", ehlo, "250 CHUNKING\r\n"},
		{"after EHLO in TLS", "STARTTLS\r\n" + ehlo, "250 CHUNKING\r\n"},
		{"after a message", ehlo + message + strings.Repeat("0123456789\r\n", 400) + ".\r\nNOOP\r\n", "250 2.0.0 Ok\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) { benchIdle(b, c.say, c.last) })
	}
}

const idleConns = 10_000

func benchIdle(b *testing.B, say, last string) {
	for range b.N {
		w := benchWorld(b)
		before := memory()
		clients := exec.Command(os.Args[0], "-test.run=^TestIdleClients$")
		clients.Env = append(os.Environ(), "IDLE_ADDR="+w.addr, "IDLE_SAY="+say, "IDLE_LAST="+last)
		in, err1 := clients.StdinPipe()
		out, err2 := clients.StdoutPipe()
		if err := errors.Join(err1, err2, clients.Start()); err != nil {
			b.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			b.Fatalf("clients say %q, %v", line, err)
		}
		after := memory()
		if f := os.Getenv("IDLE_PROFILE"); f != "" {
			o, _ := os.Create(f)
			pprof.Lookup("heap").WriteTo(o, 0)
			o.Close()
		}
		b.ReportMetric(float64(after.heap-before.heap)/idleConns, "heap-B/conn")
		b.ReportMetric(float64(after.stack-before.stack)/idleConns, "stack-B/conn")
		if n := w.server.Stats().Open; n != idleConns {
			b.Fatalf("%d sessions are open, want %d", n, idleConns)
		}
		in.Close()
		clients.Wait()
		w.stop()
	}
}

// TestIdleClients is the other process of BenchmarkIdle.
func TestIdleClients(t *testing.T) {
	addr := os.Getenv("IDLE_ADDR")
	if addr == "" {
		t.Skip("only BenchmarkIdle has a use for it")
	}
	for i := range idleConns {
		from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(i%1000>>8), byte(i%1000))}
		nc, err := (&net.Dialer{LocalAddr: from}).Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		say, secure := strings.CutPrefix(os.Getenv("IDLE_SAY"), "STARTTLS\r\n")
		if secure {
			answered(t, nc, "EHLO client.example\r\nSTARTTLS\r\n", "220 2.0.0")
			nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		}
		answered(t, nc, say, os.Getenv("IDLE_LAST"))
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// answered says something and reads up to the last answer.
func answered(t *testing.T, nc net.Conn, say, last string) {
	if _, err := io.WriteString(nc, say); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for buf := make([]byte, 4096); !strings.Contains(string(got), last); {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatalf("read: %v after %q", err, got)
		}
		got = append(got, buf[:n]...)
	}
}

type held struct{ heap, stack int64 }

func memory() held {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// BenchmarkRelay sends messages of 4 KiB in sessions of one message each, by 20
// clients.
func BenchmarkRelay(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + ".\r\n"
	benchSessions(b, false, func(c *dialogue) {
		c.ask("RCPT TO:<alice@office.example>", "250 ")
		c.ask("DATA", "354 ")
		c.send(body)
		c.expect("250 2.0.0")
	})
}

// BenchmarkRelayTLS does the same behind STARTTLS.
func BenchmarkRelayTLS(b *testing.B) {
	body := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + ".\r\n"
	benchSessions(b, true, func(c *dialogue) {
		c.ask("RCPT TO:<alice@office.example>", "250 ")
		c.ask("DATA", "354 ")
		c.send(body)
		c.expect("250 2.0.0")
	})
}

// BenchmarkRefuse refuses five unknown recipients a session, by 20 clients.
func BenchmarkRefuse(b *testing.B) {
	benchSessions(b, false, func(c *dialogue) {
		for i := range 5 {
			c.ask(fmt.Sprintf("RCPT TO:<guess%d@office.example>", i), "550 5.1.1")
		}
	})
}

func benchSessions(b *testing.B, secure bool, talk func(*dialogue)) {
	w := benchWorld(b)
	var clients sync.WaitGroup
	work := make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
	for range 20 {
		clients.Go(func() {
			for range work {
				session(b, w, secure, talk)
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	clients.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

func session(b *testing.B, w *world, secure bool, talk func(*dialogue)) {
	nc, err := net.Dial("tcp4", w.addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer nc.Close()
	c := &dialogue{t: b}
	c.begin(nc)
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	if secure {
		c.ask("STARTTLS", "220 ")
		c.begin(tls.Client(nc, &tls.Config{InsecureSkipVerify: true}))
		c.ask("EHLO client.example", "250 ")
	}
	c.ask("MAIL FROM:<a@client.example>", "250 ")
	talk(c)
	c.ask("QUIT", "221 ")
}

package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

func benchWaitingWorld(b *testing.B) *world {
	return benchWorld(b, func(p *smtp.Policy) { p.GreetWait, p.Teaser, p.Scout = time.Hour, true, still{} })
}

func benchWorld(b *testing.B, change ...func(*smtp.Policy)) *world {
	return newWorld(b, func(w *world) {
		w.opts.Recorder = forget{}
		w.opts.Policy.MaxConnections = 20_000
		w.opts.Policy.PerSource = smtp.PerSource{Open: 100_000, NewPerMinute: 1 << 30}
		w.opts.Policy.TLS = selfSigned(b)
		w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: instant{}, Deliverer: instant{}}}
		for _, f := range change {
			f(&w.opts.Policy)
		}
	})
}

// BenchmarkIdle prints what an idle connection holds of our memory: 10,000 of
// them from 1,000 addresses. The clients are a process of their own, so that
// heap and file descriptors are the server's alone.
func BenchmarkIdle(b *testing.B) {
	const message = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@office.example>\r\nDATA\r\n"
	ehlo := "EHLO client.example\r\n"
	for _, c := range []struct{ name, say, last string }{
		{waiting, "", "220-"},
		{"greeted", "", "220 "},
		{"after EHLO", ehlo, "250 CHUNKING\r\n"},
		{"after EHLO in TLS", "STARTTLS\r\n" + ehlo, "250 CHUNKING\r\n"},
		{"after a message", ehlo + message + strings.Repeat("0123456789\r\n", 400) + ".\r\nNOOP\r\n", "250 2.0.0 Ok\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			w, conns := benchWorld(b), idleConns
			if c.name == waiting {
				w, conns = benchWaitingWorld(b), waitingConns
			}
			benchIdle(b, w, conns, c.say, c.last)
		})
	}
}

const idleConns = 10_000

// waiting is the state before the greeting: a teaser is all that was said. The
// gate holds nobody for longer than ten seconds, which is time for so many.
const waiting = "before the greeting"

const waitingConns = 2_000

// still is a Scout that finds out nothing.
type still struct{ smtp.Scout }

func (still) Peer(ctx context.Context, _ netip.Addr) (*smtp.RDNS, []smtp.Listing) {
	<-ctx.Done()
	return nil, nil
}

func benchIdle(b *testing.B, w *world, conns int, say, last string) {
	for range b.N {
		before := memory()
		clients := exec.Command(os.Args[0], "-test.run=^TestIdleClients$")
		clients.Env = append(os.Environ(), "IDLE_ADDR="+w.addr, "IDLE_CONNS="+strconv.Itoa(conns), "IDLE_SAY="+say, "IDLE_LAST="+last)
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
		b.ReportMetric(float64(after.heap-before.heap)/float64(conns), "heap-B/conn")
		b.ReportMetric(float64(after.stack-before.stack)/float64(conns), "stack-B/conn")
		if n := w.server.Stats().Open; n != conns {
			b.Fatalf("%d sessions are open, want %d", n, conns)
		}
		in.Close()
		clients.Wait()
	}
}

// TestIdleClients is the other process of BenchmarkIdle.
func TestIdleClients(t *testing.T) {
	addr := os.Getenv("IDLE_ADDR")
	if addr == "" {
		t.Skip("only BenchmarkIdle has a use for it")
	}
	conns, err := strconv.Atoi(os.Getenv("IDLE_CONNS"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range conns {
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

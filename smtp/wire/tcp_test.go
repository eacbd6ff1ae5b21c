package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailweir/smtp/reply"
)

// connect returns both ends of a TCP connection; the server's is a Conn.
func connect(t testing.TB, cfg Config, ev Events) (*net.TCPConn, *Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	client.SetDeadline(time.Now().Add(time.Minute)) // only ever reached by a bug
	cfg.Hostname = "mx.example.net"
	return client.(*net.TCPConn), New(server, cfg, ev)
}

// A banned source's session ends with a RST, also while go-smtp waits for it.
func TestReset(t *testing.T) {
	client, c := connect(t, Config{}, &events{})
	wait := serve(t, c, &backend{})
	in := bufio.NewReader(client)
	if greeting, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(greeting, "220 ") {
		t.Fatalf("greeting %q, %v", greeting, err)
	}
	c.Reset()
	if _, err := in.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
	wait()
	if c.Raw() == nil || c.SetReadDeadline(time.Time{}) != net.ErrClosed {
		t.Error("the connection is not dead after Reset")
	}
}

// The last reply reaches a client that has not stopped sending: without the
// lingering close the kernel would reset the connection and the reply be lost.
func TestLastReplyArrives(t *testing.T) {
	client, c := connect(t, Config{MaxMessageSize: 1 << 10}, &events{})
	wait := serve(t, c, &backend{})
	sent := make(chan error)
	go func() {
		_, err := io.WriteString(client, opening+"BDAT 99999999\r\n"+strings.Repeat("x", 200<<10))
		sent <- err
	}()
	all, err := io.ReadAll(client)
	if !strings.HasSuffix(string(all), "552 5.3.4 Message too big"+mark+"\r\n") {
		t.Errorf("the client read %q, %v", all, err)
	}
	<-sent
	client.Close()
	wait()
}

// Bye may come from any goroutine at any time; whatever the session is doing,
// the client hears whole replies, the last of them the 421.
func TestByeWhileBusy(t *testing.T) {
	for i := range 20 {
		client, c := connect(t, Config{MaxJunk: 1 << 30}, &events{})
		wait := serve(t, c, &backend{})
		var all sync.WaitGroup
		all.Go(func() {
			for range 5 * i {
				fmt.Fprint(client, "NOOP\r\n")
			}
		})
		all.Go(func() { c.Bye(reply.Shutdown.Reply()) })
		got, _ := io.ReadAll(client)
		client.Close()
		lines := strings.Split(strings.TrimSuffix(string(got), "\r\n"), "\r\n")
		if last := lines[len(lines)-1]; last != reply.Shutdown.Reply().Line() {
			t.Fatalf("the last reply is %q", last)
		}
		all.Wait()
		wait()
	}
}

// Gate ends early when its context is done: the look-ups that it waited for
// are there. It may be done before the wait begins, and what comes after the
// gate is not disturbed.
func TestGateEndsWithContext(t *testing.T) {
	client, c := connect(t, Config{}, &events{})
	c.setGating(true)
	c.wake()
	if err := c.fill(time.Now().Add(time.Hour), true); err != errInterrupted {
		t.Errorf("woken before its wait, Gate would wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if early, err := c.Gate(ctx, time.Hour); early || err != nil {
		t.Errorf("got %v, %v", early, err)
	}
	c.wake() // late
	wait := serve(t, c, &backend{})
	io.WriteString(client, "QUIT\r\n")
	if all, err := io.ReadAll(client); err != nil || strings.Count(string(all), "\r\n") != 2 {
		t.Errorf("read %q, %v", all, err)
	}
	wait()
}

func TestGateClientLeaves(t *testing.T) {
	client, c := connect(t, Config{}, &events{})
	client.Close()
	if early, err := c.Gate(t.Context(), time.Hour); early || err != io.EOF || c.Cause() != io.EOF {
		t.Errorf("got %v, %v, cause %v", early, err, c.Cause())
	}
}

func TestCounters(t *testing.T) {
	client, c := connect(t, Config{}, &events{})
	wait := serve(t, c, &backend{})
	io.WriteString(client, "QUIT\r\n")
	all, err := io.ReadAll(client)
	wait()
	if err != nil || c.Received() != 6 || c.Sent() != int64(len(all)) || c.Cause() != net.ErrClosed {
		t.Errorf("read %q, %v; received %d, sent %d, cause %v", all, err, c.Received(), c.Sent(), c.Cause())
	}
}

// BenchmarkIdle says what an idle connection costs in all: our heap and stacks,
// go-smtp's, and both ends of net.Pipe in place of the kernel's socket.
func BenchmarkIdle(b *testing.B) {
	const conns = 1000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		clients := make([]net.Conn, conns)
		for i := range clients {
			client, server := net.Pipe()
			serve(b, New(server, Config{Hostname: "mx.example.net"}, &events{}), &backend{})
			bufio.NewReaderSize(client, 64).ReadString('\n')
			clients[i] = client
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/conns, "heap-B/conn")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/conns, "stack-B/conn")
		for _, client := range clients {
			client.Close()
		}
	}
}

// BenchmarkSession is one connection with a message of 4 KiB, pipelined.
func BenchmarkSession(b *testing.B) {
	input := opening + "DATA\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 51) + ".\r\nQUIT\r\n"
	for b.Loop() {
		client, server := net.Pipe()
		wait := serve(b, New(server, Config{Hostname: "mx.example.net"}, &events{}), &backend{})
		go io.WriteString(client, input)
		io.Copy(io.Discard, client)
		wait()
	}
}

// A source that is turned away hears one reply, no greeting.
func TestTurnAway(t *testing.T) {
	client, c := connect(t, Config{}, &events{})
	io.WriteString(client, "EHLO client.example\r\n")
	c.TurnAway(reply.Banned.Reply())
	all, err := io.ReadAll(client)
	if err != nil || string(all) != reply.Banned.Reply().Line()+"\r\n" {
		t.Errorf("the client read %q, %v", all, err)
	}
}

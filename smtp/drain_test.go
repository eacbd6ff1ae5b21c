package smtp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// SIGTERM: who is idle hears 421 at once, who is at the gate too, and who is in
// a message gets its answer first. Nothing accepted is lost.
func TestDrain(t *testing.T) {
	began := make(chan struct{}, 2)
	finish := make(chan struct{})
	w := delivering(t, func(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt {
		began <- struct{}{}
		<-finish
		return smtp.Receipt{Reply: reply.Reply{Code: 250}}
	})
	idle, half, busy := w.dial("127.0.0.1"), w.dial("127.0.0.2"), w.dial("127.0.0.3")
	idle.expect("220 ")
	half.open("a@client.example")
	half.ask("RCPT TO:<alice@office.example>", "250 ")
	half.ask("DATA", "354 ")
	half.send("half a ")
	submit(busy, "\r\n", 0)
	<-began

	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	said := idle.expect("421 4.3.2 Service is stopping")
	idle.ended()
	if _, err := net.Dial("tcp4", w.addr); err == nil {
		t.Error("the listener still takes connections")
	}
	close(finish)
	busy.expect("250 2.0.0")
	busy.expect("421 4.3.2")
	busy.ended()
	half.send("message\r\n.\r\n")
	half.expect("250 2.0.0")
	half.expect("421 4.3.2")
	select {
	case <-stopped:
	case <-time.After(patienceOfTests):
		t.Fatal("Serve did not return")
	}
	id, err := refOf(said)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.recorder.all() {
		if r.Facts.Ref.String() == id {
			if r.Reason != reply.Shutdown || r.Outcome != smtp.Deferred || r.Reply.Line() != said {
				t.Errorf("record: %s %s %q", r.Outcome, r.Reason, r.Reply.Line())
			}
			return
		}
	}
	t.Errorf("no record has the ref of %q", said)
}

// At the end of the grace a delivery is told to stop, and its client hears 451.
func TestGraceEnds(t *testing.T) {
	began := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.opts.Grace = time.Millisecond
		slow := delivererFunc(func(ctx context.Context, _ smtp.Envelope, _ io.ReadSeeker) smtp.Receipt {
			close(began)
			<-ctx.Done()
			return smtp.Receipt{Reply: reply.BackendAway.Reply(), Reason: reply.BackendAway}
		})
		w.opts.Policy.Router = routes{"office.example": {Name: "office", Oracle: backend{w.office}, Deliverer: slow}}
	})
	c := w.dial("127.0.0.1")
	submit(c, "\r\n", 0)
	<-began
	go w.stop()
	c.expect("451 4.4.1")
	c.expect("421 4.3.2")
	w.stop()
}

// sickListener fails before it accepts.
type sickListener struct {
	net.Listener
	mu    sync.Mutex
	fails int
}

func (l *sickListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return nil, errors.New("accept: too many open files")
	}
	return l.Listener.Accept()
}

// An error of accept never ends the server; a listener that is gone does.
func TestAcceptErrors(t *testing.T) {
	w := newWorld(t, nil)
	w.stop()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := smtp.NewServer(w.opts)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(context.Background(), &sickListener{Listener: l, fails: 5}) }()
	c := w.dial("127.0.0.1")
	c.expect("220 ")
	l.Close()
	c.expect("421 4.3.2")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "accept on 127.0.0.1") {
		t.Errorf("Serve ended with %v", err)
	}
}

// A new policy is that of new sessions; routes serve live ones at once.
func TestSetPolicy(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial("127.0.0.1")
	c.open("a@client.example")
	c.ask("RCPT TO:<alice@new.example>", "554 5.7.1")
	p := w.opts.Policy
	p.MaxConnections = 1
	p.Router = routes{"new.example": {Name: "office", Oracle: backend{w.office}, Deliverer: backend{w.office}}}
	if err := w.server.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	c.ask("RCPT TO:<alice@new.example>", "250 ")
	w.dial("127.0.0.1").expect("421 4.7.0")
	if err := w.server.SetPolicy(smtp.Policy{}); err == nil {
		t.Error("a policy without router was taken")
	}
}

package e2e

import (
	"bufio"
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailweir/lab"
)

// tap sits between the edge and the backend and knows, of each message, how
// far it came: its body went to the backend, the backend took it. It can hold
// the backend's 250 back while something is done to the edge.
type tap struct {
	t       *testing.T
	host    *lab.Host
	backend netip.AddrPort

	mu       sync.Mutex
	sent     map[string]bool // bodies on their way, without an answer yet
	answered map[string]int  // 250s of the backend that came by
	between  map[string]bool // answered, and the client has not heard of it
	doubtful map[string]bool // the backend died with the body: it may have kept it

	// armed receives one message's id between the backend's 250 and ours; the
	// 250 waits until release.
	armed   bool
	held    chan string
	release chan struct{}
}

func newTap(t *testing.T, host *lab.Host, backend netip.AddrPort) *tap {
	t.Helper()
	p := &tap{
		t: t, host: host, backend: backend,
		sent: map[string]bool{}, answered: map[string]int{}, between: map[string]bool{}, doubtful: map[string]bool{},
		held: make(chan string), release: make(chan struct{}),
	}
	ln, err := host.Listen(netip.AddrPortFrom(host.Addr(), 25))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// conversation is one connection through the tap.
type conversation struct {
	tap *tap
	mu  sync.Mutex
	id  string // of the message whose body goes by
}

func (p *tap) serve(front net.Conn) {
	defer front.Close()
	back, err := p.host.Dial(p.t.Context(), p.backend)
	if err != nil {
		return
	}
	defer back.Close()
	c := &conversation{tap: p}
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyLines(back, front, c.fromEdge)
		back.CloseWrite()
	}()
	copyLines(front, back, c.fromBackend)
	front.Close() // the backend is gone: so is the edge's connection to it
	<-done
	c.over()
}

// copyLines passes on what it reads, line by line, and shows each line first.
func copyLines(to, from net.Conn, see func(line []byte)) {
	in := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		see(line)
		if _, werr := to.Write(line); werr != nil || (err != nil && err != bufio.ErrBufferFull) {
			return
		}
	}
}

func (c *conversation) fromEdge(line []byte) {
	id, ok := bytes.CutPrefix(line, []byte("Message-ID: "))
	if !ok {
		return
	}
	c.mu.Lock()
	c.id = strings.TrimSpace(string(id))
	c.mu.Unlock()
	c.tap.mu.Lock()
	c.tap.sent[strings.TrimSpace(string(id))] = true
	c.tap.mu.Unlock()
}

// taken begins Postfix's answer to a message that it has on disk.
var taken = []byte("250 2.0.0 Ok: queued as ")

func (c *conversation) fromBackend(line []byte) {
	if !bytes.HasPrefix(line, taken) {
		return
	}
	c.mu.Lock()
	id := c.id
	c.id = ""
	c.mu.Unlock()
	p := c.tap
	p.mu.Lock()
	delete(p.sent, id)
	p.answered[id]++
	p.between[id] = true
	hold := p.armed
	p.armed = false
	p.mu.Unlock()
	if hold {
		select {
		case p.held <- id:
			<-p.release
		case <-p.t.Context().Done():
		}
	}
}

// over notes a body that went to a backend which died with it.
func (c *conversation) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == "" {
		return
	}
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	delete(c.tap.sent, c.id)
	c.tap.doubtful[c.id] = true
}

// arm makes the next 250 of the backend wait.
func (p *tap) arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
}

// disarm takes that back; false says that a 250 waits already.
func (p *tap) disarm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.armed
	p.armed = false
	return was
}

// heard says that the client has the 250 of a message.
func (p *tap) heard(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.between, id)
}

// unheard are the messages that the backend is taking, and those that it has
// taken, whose client does not know it: a kill of the edge now makes the client
// send them again, and the backend has them already or will have them.
func (p *tap) unheard() (taking, taken []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sent)), slices.Collect(maps.Keys(p.between))
}

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
	live     map[*conversation]bool
	answered map[string]int  // 250s of the backend that came by
	between  map[string]bool // answered, and the client has not heard of it
	orphaned map[string]bool // the edge died before the backend's answer, which may have been 250
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
		live: map[*conversation]bool{}, answered: map[string]int{},
		between: map[string]bool{}, orphaned: map[string]bool{}, doubtful: map[string]bool{},
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

// conversation is one connection through the tap. Its fields are guarded by the
// tap's lock.
type conversation struct {
	tap    *tap
	id     string // of the message whose body goes by
	orphan bool   // the edge that made it was killed
}

func (p *tap) serve(front net.Conn) {
	defer front.Close()
	c := &conversation{tap: p}
	p.mu.Lock()
	p.live[c] = true
	p.mu.Unlock()
	defer c.over()
	back, err := p.host.Dial(p.t.Context(), p.backend)
	if err != nil {
		return
	}
	defer back.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyLines(back, front, c.fromEdge)
		back.CloseWrite()
	}()
	copyLines(front, back, c.fromBackend)
	front.Close() // the backend is gone: so is the edge's connection to it
	<-done
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
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.id = strings.TrimSpace(string(id))
}

// taken begins Postfix's answer to a message that it has on disk.
var taken = []byte("250 2.0.0 Ok: queued as ")

func (c *conversation) fromBackend(line []byte) {
	if !bytes.HasPrefix(line, taken) {
		return
	}
	p := c.tap
	p.mu.Lock()
	id := c.id
	c.id = ""
	p.answered[id]++
	if c.orphan {
		p.orphaned[id] = true
	} else {
		p.between[id] = true
	}
	hold := p.armed && !c.orphan
	if hold {
		p.armed = false
	}
	p.mu.Unlock()
	if hold {
		select {
		case p.held <- id:
			<-p.release
		case <-p.t.Context().Done():
		}
	}
}

// over notes a body that nobody heard an answer to: the edge or the backend died
// with it.
func (c *conversation) over() {
	p := c.tap
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, c)
	switch {
	case c.id == "":
	case c.orphan:
		p.orphaned[c.id] = true
	default:
		p.doubtful[c.id] = true
	}
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

// edgeDied says that the edge was killed: what it had under way the backend may
// still take, as it may long have the whole body. It returns the messages that
// the backend has taken and whose client does not know it: these it will send
// again.
func (p *tap) edgeDied() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.live {
		c.orphan = true
	}
	return slices.Collect(maps.Keys(p.between))
}

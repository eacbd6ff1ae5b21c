package relay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/address"
)

// fake is a mail server in memory that says what a test wants it to say.
type fake struct {
	ehlo   []string                    // extensions
	greet  string                      // "": 220
	answer func(command string) string // "": the usual
	delay  func(command string) time.Duration
	lmtp   func(to string) string // answer for one recipient after the data; nil: SMTP
	down   error                  // of a connection

	mu    sync.Mutex
	log   []string // commands
	conns int
	open  int
	most  int // open at once
	mails []fakeMail
	busy  sync.WaitGroup
}

type fakeMail struct {
	from string
	to   []string
	data string
}

func (s *fake) dial(_ context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	ours, theirs := net.Pipe()
	s.conns++
	s.open++
	s.most = max(s.most, s.open)
	s.busy.Go(func() {
		s.serve(theirs)
		theirs.Close()
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	})
	return ours, nil
}

func (s *fake) setDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// set changes what the server says.
func (s *fake) set(answer func(command string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *fake) answering() func(string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answer
}

// serve speaks until the client leaves. What it says goes out in one piece for
// all that the client sent in one piece: a pipe has no buffer.
func (s *fake) serve(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 128<<10)
	w := bufio.NewWriterSize(conn, 128<<10)
	greet := s.greet
	if greet == "" {
		greet = "220 mx.fake.example ESMTP"
	}
	w.WriteString(greet + "\r\n")
	var m fakeMail
	for {
		if r.Buffered() == 0 {
			if w.Flush() != nil {
				return
			}
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.log = append(s.log, line)
		s.mu.Unlock()
		if s.delay != nil {
			time.Sleep(s.delay(line))
		}
		if !s.say(w, r, line, &m) {
			w.Flush()
			return
		}
	}
}

func (s *fake) say(w *bufio.Writer, r *bufio.Reader, line string, m *fakeMail) (goOn bool) {
	verb, arg, _ := strings.Cut(line, " ")
	said := ""
	if f := s.answering(); f != nil {
		said = f(line)
	}
	if said != "" {
		w.WriteString(said + "\r\n")
		return !strings.HasPrefix(said, "421")
	}
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		lines := append([]string{"mx.fake.example"}, s.ehlo...)
		for i, l := range lines {
			sep := "-"
			if i == len(lines)-1 {
				sep = " "
			}
			w.WriteString("250" + sep + l + "\r\n")
		}
		return true
	case "MAIL":
		*m = fakeMail{from: arg}
	case "RCPT":
		m.to = append(m.to, strings.TrimPrefix(arg, "TO:"))
	case "DATA":
		w.WriteString("354 go on\r\n")
		if w.Flush() != nil {
			return false
		}
		return s.data(w, r, m)
	case "QUIT":
		w.WriteString("221 bye\r\n")
		return false
	}
	w.WriteString("250 2.0.0 ok\r\n")
	return true
}

func (s *fake) data(w *bufio.Writer, r *bufio.Reader, m *fakeMail) bool {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	m.data = b.String()
	if s.delay != nil {
		time.Sleep(s.delay("."))
	}
	said := "250 2.0.0 queued"
	if f := s.answering(); f != nil {
		if a := f("."); a != "" {
			said = a
		}
	}
	if s.lmtp != nil {
		s.eachRecipient(w, *m)
		return true
	}
	if strings.HasPrefix(said, "250") {
		s.keep(*m)
	}
	if said == "250 hang up" {
		return false
	}
	w.WriteString(said + "\r\n")
	return true
}

func (s *fake) eachRecipient(w *bufio.Writer, m fakeMail) {
	for _, to := range m.to {
		said := s.lmtp(to)
		if strings.HasPrefix(said, "250") {
			s.keep(fakeMail{m.from, []string{to}, m.data})
		}
		w.WriteString(said + "\r\n")
	}
}

func (s *fake) keep(m fakeMail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
}

func (s *fake) got() []fakeMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]fakeMail(nil), s.mails...)
}

// count says how often a command that begins so was heard.
func (s *fake) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.log {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

// rig is a domain, example.com, over fakes.
type rig struct {
	t       testing.TB
	memory  *Memory
	router  *Router
	backend []*Backend
	servers []*fake
	route   smtp.Route
}

func newRig(t testing.TB, recipients, dir string, servers ...*fake) *rig {
	t.Helper()
	r := &rig{t: t, servers: servers}
	names := []string{"one", "two", "three"}
	for i, s := range servers {
		u := URL{Scheme: "smtp", Network: "tcp", Host: names[i] + ".internal", Port: "25"}
		if s.lmtp != nil {
			u.Scheme = "lmtp"
		}
		b, err := NewBackend(BackendOptions{Name: names[i], URL: u, TLS: TLSOff, Hostname: "edge.example", Dial: s.dial})
		if err != nil {
			t.Fatal(err)
		}
		r.backend = append(r.backend, b)
	}
	r.start(recipients, dir)
	return r
}

func (r *rig) start(recipients, dir string) {
	r.t.Helper()
	var err error
	if r.memory, err = OpenMemory(dir, nil); err != nil {
		r.t.Fatal(err)
	}
	r.router, err = NewRouter([]Domain{{Name: "example.com", Backends: r.backend, Recipients: recipients}}, r.memory)
	if err != nil {
		r.t.Fatal(err)
	}
	var ok bool
	if r.route, ok = r.router.Route("example.com"); !ok {
		r.t.Fatal("no route")
	}
}

// stop ends everything, as a bubble of synctest wants it.
func (r *rig) stop() {
	r.memory.Close()
	for _, b := range r.backend {
		b.asking.close()
		b.sending.close()
	}
	for _, s := range r.servers {
		s.busy.Wait()
	}
}

func box(local string) address.Mailbox { return address.Mailbox{Local: local, Domain: "example.com"} }

// verify asks as the session does for a stranger.
func (r *rig) verify(local string) smtp.Answer {
	ctx, cancel := context.WithTimeout(r.t.Context(), 15*time.Second)
	defer cancel()
	return r.route.Oracle.Verify(ctx, box(local))
}

func (r *rig) state(local string) string {
	a := r.verify(local)
	return string(a.State) + " " + string(a.Age)
}

// send delivers body as the session does.
func (r *rig) send(body string, locals ...string) smtp.Receipt {
	return r.sendWithin(9*time.Minute, body, locals...)
}

func (r *rig) sendWithin(patience time.Duration, body string, locals ...string) smtp.Receipt {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	env := smtp.Envelope{
		From:   address.Path{Mailbox: address.Mailbox{Local: "joe", Domain: "sender.example"}},
		Digest: sha256.Sum256([]byte(body)), Size: int64(len(body)),
	}
	for _, l := range locals {
		env.To = append(env.To, box(l))
	}
	return r.route.Deliverer.Deliver(ctx, env, strings.NewReader(body))
}

// only answers RCPT with 550 5.1.1 but for the given local parts; postfix does
// it so.
func only(locals ...string) func(string) string {
	return func(command string) string {
		to, ok := strings.CutPrefix(command, "RCPT TO:<")
		if !ok {
			return ""
		}
		for _, l := range locals {
			if strings.HasPrefix(to, l+"@") {
				return ""
			}
		}
		return "550 5.1.1 <" + to + ": Recipient address rejected: User unknown in virtual mailbox table"
	}
}

var errRefused = errors.New("connection refused")

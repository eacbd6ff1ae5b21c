package smtp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/check"
	"mailweir/smtp/reply"
)

// patienceOfTests bounds every wait for something that must happen.
const patienceOfTests = 20 * time.Second

// sink is a real go-smtp server in the place of a backend. It knows the local
// parts in users and keeps what it gets.
type sink struct {
	addr  string
	users string // local parts it knows, with spaces between
	mu    sync.Mutex
	mails []mail
	say   error // its answer to a message; nil: 250
	naive bool  // takes every recipient
}

type mail struct {
	from string
	to   []string
	body []byte
}

func newSink(t testing.TB, users string) *sink {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().String(), users: users}
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &sinkSession{sink: s}, nil
	}))
	server.Domain = "backend.example"
	server.EnableSMTPUTF8 = true
	server.MaxLineLength = 1 << 17
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *sink) taken() []mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mail(nil), s.mails...)
}

func (s *sink) answer(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say = err
}

// takeAll has it take every recipient, as one that reads source routes does.
func (s *sink) takeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.naive = true
}

func (s *sink) knows(local string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.naive || slices.Contains(strings.Fields(s.users), local)
}

type sinkSession struct {
	sink *sink
	mail mail
}

func (s *sinkSession) Reset()        { s.mail = mail{} }
func (s *sinkSession) Logout() error { return nil }
func (s *sinkSession) Mail(from string, _ *gosmtp.MailOptions) error {
	s.mail.from = from
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	local, _, _ := strings.Cut(to, "@")
	if s.sink.knows(local) {
		s.mail.to = append(s.mail.to, to)
		return nil
	}
	return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
}

func (s *sinkSession) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if s.sink.say != nil {
		return s.sink.say
	}
	s.mail.body = body
	s.sink.mails = append(s.sink.mails, s.mail)
	return nil
}

// backend is the smallest Oracle and Deliverer that asks a sink.
type backend struct{ sink *sink }

func (b backend) Verify(ctx context.Context, to address.Mailbox) smtp.Answer {
	c, err := gosmtp.Dial(b.sink.addr)
	if err != nil {
		return smtp.Answer{State: smtp.Unavailable, Reason: reply.OracleAway, Reply: reply.OracleAway.Reply()}
	}
	defer c.Close()
	if err := errors.Join(c.Hello("mx.example.net"), c.Mail("", nil)); err != nil {
		return smtp.Answer{State: smtp.Unavailable, Reason: reply.OracleAway, Reply: reply.OracleAway.Reply()}
	}
	if c.Rcpt(to.String(), nil) != nil {
		return smtp.Answer{State: smtp.Unknown, Age: smtp.Live, Reason: reply.UnknownUser, Reply: reply.UnknownUser.Reply()}
	}
	return smtp.Answer{State: smtp.Valid, Age: smtp.Live}
}

func (b backend) Deliver(ctx context.Context, env smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
	away := smtp.Receipt{Reply: reply.BackendAway.Reply(), Reason: reply.BackendAway, Backend: "sink"}
	c, err := gosmtp.Dial(b.sink.addr)
	if err != nil {
		return away
	}
	defer c.Close()
	var to []string
	for _, m := range env.To {
		to = append(to, m.String())
	}
	err = c.SendMail(env.From.Mailbox.String(), to, body)
	var said *gosmtp.SMTPError
	switch {
	case err == nil:
		return smtp.Receipt{Reply: reply.Reply{Code: 250}, Backend: "sink", Detail: "250 ok"}
	case errors.As(err, &said):
		r := reply.Reply{Code: said.Code, Enhanced: reply.Enhanced(said.EnhancedCode), Text: said.Message}
		return smtp.Receipt{Reply: r, Reason: reply.MessageRefused, Backend: "sink", Detail: r.Line()}
	}
	return away
}

// routes is a Router over a map.
type routes map[string]smtp.Route

func (r routes) Route(domain string) (smtp.Route, bool) {
	route, ok := r[domain]
	return route, ok
}

// recorder keeps transactions in the order of their records.
type recorder struct {
	mu        sync.Mutex
	changed   chan struct{}
	records   []smtp.Transaction
	announced map[ref.Ref]bool
	convicted []conviction
}

type conviction struct {
	ref      ref.Ref
	peer     netip.Addr
	evidence smtp.Evidence
	enforced bool
	left     smtp.Left
}

func newRecorder() *recorder {
	return &recorder{changed: make(chan struct{}), announced: map[ref.Ref]bool{}}
}

func (r *recorder) Announce(_ context.Context, t smtp.Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announced[t.Facts.Ref] = true
}

func (r *recorder) Record(t smtp.Transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, t)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Convicted(id ref.Ref, peer netip.Addr, _ time.Time, c smtp.Conviction, enforced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.convicted = append(r.convicted, conviction{id, peer, c.Evidence, enforced, c.Left})
}

func (r *recorder) convictions() []conviction {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]conviction(nil), r.convicted...)
}

// wait returns record i as soon as there is one.
func (r *recorder) wait(t testing.TB, i int) smtp.Transaction {
	t.Helper()
	deadline := time.After(patienceOfTests)
	for {
		r.mu.Lock()
		changed := r.changed
		if i < len(r.records) {
			defer r.mu.Unlock()
			return r.records[i]
		}
		r.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("record %d was never written", i)
		}
	}
}

func (r *recorder) all() []smtp.Transaction {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]smtp.Transaction(nil), r.records...)
}

// offender takes offences as guard would, and says whose they were.
type offender struct {
	mu    sync.Mutex
	peers []string
	err   error
}

func (o *offender) Offend(_ context.Context, conn *net.TCPConn, _ reply.Reason, _ ref.Ref) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.peers = append(o.peers, conn.RemoteAddr().(*net.TCPAddr).IP.String())
	return nil
}

func (o *offender) filed() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.peers...)
}

// tiers protects one address.
type tiers struct{ protected netip.Addr }

func (t tiers) Tier(a netip.Addr) smtp.Tier {
	if a == t.protected {
		return smtp.Protected
	}
	return smtp.New
}

// world is a Server on loopback with everything around it.
type world struct {
	t        testing.TB
	opts     smtp.Options
	checks   check.Policy // see policy
	server   *smtp.Server
	addr     string
	office   *sink // office.example and utf8.example
	shop     *sink // shop.example
	recorder *recorder
	offender *offender
	later    atomic.Int64 // on the clock that stands otherwise, see policy
	stop     func()       // drains, and waits for its end
}

// newWorld makes a world; change may alter the options before the start.
func newWorld(t testing.TB, change func(*world)) *world {
	w := &world{
		t: t, recorder: newRecorder(), offender: &offender{},
		office: newSink(t, "alice bob carol postmaster"), shop: newSink(t, "dave"),
	}
	office, shop := backend{w.office}, backend{w.shop}
	w.opts = smtp.Options{
		Hostname: "mx.example.net", TempDir: t.TempDir(), Recorder: w.recorder, Offender: w.offender,
		Tiers: tiers{netip.MustParseAddr("127.0.0.99")},
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Grace: patienceOfTests,
		Policy: smtp.Policy{
			ID: "p1", MaxMessageSize: 1 << 20, SMTPUTF8: true,
			Postmaster: address.Mailbox{Local: "postmaster", Domain: "office.example"},
			PerSource:  smtp.PerSource{Open: 1000, NewPerMinute: 100_000},
			Chain:      check.Chain(3),
			Router: routes{
				"office.example": {Name: "office", Oracle: office, Deliverer: office},
				"utf8.example":   {Name: "office", Oracle: office, Deliverer: office, SMTPUTF8: true},
				"small.example":  {Name: "office", Oracle: office, Deliverer: office, MaxMessageSize: 200},
				"shop.example":   {Name: "shop", Oracle: shop, Deliverer: shop},
			},
		},
	}
	if change != nil {
		change(w)
	}
	w.start()
	return w
}

func (w *world) start() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = l.Addr().String()
	if w.server, err = smtp.NewServer(w.opts); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(ctx, l) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

// received splits a message at the end of the trace field that we add.
func received(t testing.TB, body []byte) (field, rest []byte) {
	t.Helper()
	if !bytes.HasPrefix(body, []byte("Received: ")) {
		t.Fatalf("the message does not begin with Received: %.80q", body)
	}
	for i := 0; ; {
		n := bytes.Index(body[i:], []byte("\r\n"))
		if n < 0 {
			t.Fatal("Received has no end")
		}
		if i += n + 2; i == len(body) || body[i] != '\t' {
			return body[:i], body[i:]
		}
	}
}

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

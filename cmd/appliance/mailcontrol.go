package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"mailweir/control"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/harvest"
)

// mailSocket is where the mail role takes the operator's questions.
func mailSocket(runDir string) string { return filepath.Join(runDir, "mail", "control.sock") }

// mailControl answers the operator's questions to the mail role.
type mailControl struct {
	store     *record.Store
	server    *smtp.Server
	status    func(context.Context) mailStatus
	watch     *harvest.Watch
	now       func() time.Time
	origin    func(netip.Addr) origin
	hits      func(geoHitsRequest) []geoHit
	check     func() error // of the file, as reload would find it
	reload    func() (reloaded, error)
	returns   func() greylist.Report
	lists     *access.List
	feeds     *feeds
	providers *providers
	closed    *maintenance
}

// recordsRequest is record.Query as it goes over the socket.
type recordsRequest struct {
	Since  time.Time    `json:"since,omitzero"`
	Reason string       `json:"reason,omitempty"`
	Sender string       `json:"sender,omitempty"`
	Rcpt   string       `json:"rcpt,omitempty"`
	Addr   netip.Prefix `json:"addr,omitzero"`
	Limit  int          `json:"limit,omitempty"`
}

// whyRequest asks for the story of a ref, an address or a mailbox.
type whyRequest struct {
	Subject string `json:"subject"`
	Limit   int    `json:"limit,omitempty"`
}

// testRequest is smtp.Probe as it goes over the socket.
type testRequest struct {
	From netip.Addr `json:"from"`
	HELO string     `json:"helo,omitempty"`
	Mail *string    `json:"mail,omitempty"`
	Rcpt string     `json:"rcpt,omitempty"`
}

// decision is the answer: the record that such a connection would leave.
type decision struct {
	record.Line
}

// origin is what is known of where an address is.
type origin struct {
	Address netip.Addr `json:"address"`
	Country string     `json:"country,omitempty"`
	ASN     uint32     `json:"asn,omitempty"`
	Network string     `json:"network,omitempty"`
	Sources []string   `json:"sources"`         // the databases that were asked, with their dates
	Rules   []string   `json:"rules,omitempty"` // that name it
}

// reloaded is what a role says of a reload that went well.
type reloaded struct {
	Changed []string `json:"changed,omitempty"`
	Later   []string `json:"later,omitempty"` // keys that take effect at the next start
}

func (m *mailControl) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /records", control.Stream(m.records))
	mux.Handle("POST /why", control.Handle(m.why))
	mux.Handle("POST /evidence", control.Stream(m.evidence))
	mux.Handle("POST /would", control.Stream(m.would))
	mux.Handle("POST /would-refuse", control.Stream(m.wouldRefuse))
	mux.Handle("POST /test", control.Handle(m.test))
	mux.Handle("POST /complain", control.Handle(m.complain))
	mux.Handle("POST /top", control.Handle(m.top))
	mux.Handle("GET /geo", control.Handle(func(r *http.Request, _ struct{}) (origin, error) {
		a, err := netip.ParseAddr(r.URL.Query().Get("addr"))
		if err != nil {
			return origin{}, control.Usagef("%v", err)
		}
		return m.origin(a.Unmap()), nil
	}))
	mux.Handle("POST /geo-hits", handleGeoHits(m.hits))
	mux.Handle("GET /status", control.Handle(func(r *http.Request, _ struct{}) (mailStatus, error) {
		return m.status(r.Context()), nil
	}))
	mux.Handle("GET /returns", control.Handle(func(*http.Request, struct{}) (greylist.Report, error) {
		return m.returns(), nil
	}))
	mux.Handle("GET /lists", control.Stream(m.entries))
	mux.Handle("GET /networks", control.Stream(m.networks))
	mux.Handle("POST /fetch", control.Handle(m.fetch))
	mux.Handle("POST /lists/add", control.HandleText(m.addEntries))
	mux.Handle("POST /lists/remove", control.Handle(m.removeEntry))
	mux.Handle("POST /maintenance", control.Handle(func(_ *http.Request, s shut) (control.None, error) {
		return control.None{}, m.closed.set(s)
	}))
	mux.Handle("POST /check", control.Handle(func(*http.Request, struct{}) (control.None, error) {
		return control.None{}, m.check()
	}))
	mux.Handle("POST /reload", control.Handle(func(*http.Request, struct{}) (reloaded, error) {
		return m.reload()
	}))
	return mux
}

func (m *mailControl) records(r *http.Request, q recordsRequest, emit func(any) error) error {
	for line, err := range m.store.Search(r.Context(), q.query()) {
		if err != nil {
			return err
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

func (q recordsRequest) query() record.Query {
	return record.Query{Since: q.Since, Reason: q.Reason, Sender: q.Sender, Rcpt: q.Rcpt, Addr: q.Addr, Limit: q.Limit}
}

func (m *mailControl) why(r *http.Request, q whyRequest) (record.Story, error) {
	story, err := m.store.Why(r.Context(), q.Subject, q.Limit)
	if errors.Is(err, record.ErrSubject) {
		return story, control.Usagef("%v", err)
	}
	return story, err
}

// evidenceRequest asks for the evidence that is kept under refs of bans.
type evidenceRequest struct {
	Refs []ref.Ref `json:"refs"`
}

func (m *mailControl) evidence(r *http.Request, q evidenceRequest, emit func(any) error) error {
	for _, ref := range q.Refs {
		found, ok, err := m.store.Conviction(r.Context(), ref)
		if err == nil && ok {
			err = emit(found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mailControl) test(r *http.Request, q testRequest) (decision, error) {
	d := m.server.Test(r.Context(), smtp.Probe{From: q.From, HELO: q.HELO, Mail: q.Mail, Rcpt: q.Rcpt})
	node, err := os.Hostname()
	if err != nil {
		node = ""
	}
	return decision{record.NewLine(&smtp.Transaction{
		Facts: d.Facts, Checks: d.Steps, Score: d.Score, Outcome: d.Outcome, Reason: d.Reason, Reply: d.Reply,
	}, node)}, nil
}

// mailClient asks the mail role.
type mailClient struct{ c *control.Client }

func newMailClient(runDir string) mailClient {
	return mailClient{control.NewClient(mailSocket(runDir), "mail")}
}

func (m mailClient) records(ctx context.Context, q recordsRequest, each func(json.RawMessage) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/records", q, each)
}

func (m mailClient) why(ctx context.Context, subject string, limit int) (s record.Story, err error) {
	return s, m.c.Do(ctx, http.MethodPost, "/why", whyRequest{subject, limit}, &s)
}

// evidence calls each for the evidence of those refs that have some.
func (m mailClient) evidence(ctx context.Context, refs []ref.Ref, each func(record.Conviction) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/evidence", evidenceRequest{refs}, func(raw json.RawMessage) error {
		var c record.Conviction
		if err := json.Unmarshal(raw, &c); err != nil {
			return err
		}
		return each(c)
	})
}

func (m mailClient) test(ctx context.Context, q testRequest) (d decision, err error) {
	return d, m.c.Do(ctx, http.MethodPost, "/test", q, &d)
}

func (m mailClient) origin(ctx context.Context, a netip.Addr) (o origin, err error) {
	return o, m.c.Do(ctx, http.MethodGet, "/geo?addr="+a.String(), nil, &o)
}

func (m mailClient) status(ctx context.Context) (s mailStatus, err error) {
	return s, m.c.Do(ctx, http.MethodGet, "/status", nil, &s)
}

func (m mailClient) returns(ctx context.Context) (r greylist.Report, err error) {
	return r, m.c.Do(ctx, http.MethodGet, "/returns", nil, &r)
}

func (m mailClient) check(ctx context.Context) error {
	return m.c.Do(ctx, http.MethodPost, "/check", nil, nil)
}

func (m mailClient) reload(ctx context.Context) (r reloaded, err error) {
	return r, m.c.Do(ctx, http.MethodPost, "/reload", nil, &r)
}

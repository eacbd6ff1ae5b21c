package mailrole

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/control"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/harvest"
)

// mailControl answers the operator's questions to the mail role.
type mailControl struct {
	store     *record.Store
	server    *smtp.Server
	status    func(context.Context) mailapi.Status
	watch     *harvest.Watch
	now       func() time.Time
	origin    func(netip.Addr) mailapi.Origin
	hits      func(mailapi.GeoHitsRequest) []mailapi.GeoHit
	check     func() error // of the file, as reload would find it
	reload    func() (mailapi.Reloaded, error)
	returns   func() greylist.Report
	lists     *access.List
	feeds     *feeds
	providers *providers
	closed    *maintenance
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
	mux.Handle("GET /geo", control.Handle(func(r *http.Request, _ struct{}) (mailapi.Origin, error) {
		a, err := netip.ParseAddr(r.URL.Query().Get("addr"))
		if err != nil {
			return mailapi.Origin{}, control.Usagef("%v", err)
		}
		return m.origin(a.Unmap()), nil
	}))
	mux.Handle("POST /geo-hits", handleGeoHits(m.hits))
	mux.Handle("GET /status", control.Handle(func(r *http.Request, _ struct{}) (mailapi.Status, error) {
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
	mux.Handle("POST /maintenance", control.Handle(func(_ *http.Request, s mailapi.Shut) (control.None, error) {
		return control.None{}, m.closed.set(s)
	}))
	mux.Handle("POST /check", control.Handle(func(*http.Request, struct{}) (control.None, error) {
		return control.None{}, m.check()
	}))
	mux.Handle("POST /reload", control.Handle(func(*http.Request, struct{}) (mailapi.Reloaded, error) {
		return m.reload()
	}))
	return mux
}

func (m *mailControl) records(r *http.Request, q mailapi.RecordsRequest, emit func(any) error) error {
	for line, err := range m.store.Search(r.Context(), q.Query()) {
		if err != nil {
			return err
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

func (m *mailControl) why(r *http.Request, q mailapi.WhyRequest) (record.Story, error) {
	story, err := m.store.Why(r.Context(), q.Subject, q.Limit)
	if errors.Is(err, record.ErrSubject) {
		return story, control.Usagef("%v", err)
	}
	return story, err
}

func (m *mailControl) evidence(r *http.Request, q mailapi.EvidenceRequest, emit func(any) error) error {
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

func (m *mailControl) test(r *http.Request, q mailapi.TestRequest) (mailapi.Decision, error) {
	d := m.server.Test(r.Context(), smtp.Probe{From: q.From, HELO: q.HELO, Mail: q.Mail, Rcpt: q.Rcpt})
	node, err := os.Hostname()
	if err != nil {
		node = ""
	}
	return mailapi.Decision{Line: record.NewLine(&smtp.Transaction{
		Facts: d.Facts, Checks: d.Steps, Score: d.Score, Outcome: d.Outcome, Reason: d.Reason, Reply: d.Reply,
	}, node)}, nil
}

// top is the mail role's part of the view.
func (m *mailControl) top(r *http.Request, q mailapi.TopRequest) (mailapi.Top, error) {
	if q.Most < 1 {
		return mailapi.Top{}, control.Usagef("nothing was asked for")
	}
	s := m.status(r.Context())
	return mailapi.Top{
		Time: m.now(), Open: s.Open, Reasons: s.Reasons, Attackers: m.watch.Top(m.now(), q.Most),
		Sources: m.server.Connected(min(q.Most, 5)), Alarms: s.Alarms,
	}, nil
}

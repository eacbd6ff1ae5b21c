// Package mailapi is what an operator may ask the mail role over its socket:
// questions, answers, and the client.
package mailapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"mailweir/control"
	"mailweir/feed"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
)

// Socket is where the mail role takes the operator's questions.
func Socket(runDir string) string { return filepath.Join(runDir, "mail", "control.sock") }

// Client asks the mail role.
type Client struct{ c *control.Client }

// NewClient asks the one that runs with this run_dir.
func NewClient(runDir string) Client {
	return Client{control.NewClient(Socket(runDir), "mail")}
}

// Records calls each for the records that q looks for, as JSON.
func (m Client) Records(ctx context.Context, q RecordsRequest, each func(json.RawMessage) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/records", q, each)
}

// Why asks for the story of a ref, an address or a mailbox.
func (m Client) Why(ctx context.Context, subject string, limit int) (s record.Story, err error) {
	return s, m.c.Do(ctx, http.MethodPost, "/why", WhyRequest{subject, limit}, &s)
}

// Evidence calls each for the evidence of those refs that have some.
func (m Client) Evidence(ctx context.Context, refs []ref.Ref, each func(record.Conviction) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/evidence", EvidenceRequest{refs}, decoded(each))
}

// Test has a connection judged that nobody made.
func (m Client) Test(ctx context.Context, q TestRequest) (d Decision, err error) {
	return d, m.c.Do(ctx, http.MethodPost, "/test", q, &d)
}

// Origin asks where an address is.
func (m Client) Origin(ctx context.Context, a netip.Addr) (o Origin, err error) {
	return o, m.c.Do(ctx, http.MethodGet, "/geo?addr="+a.String(), nil, &o)
}

// Status asks how the mail role is.
func (m Client) Status(ctx context.Context) (s Status, err error) {
	return s, m.c.Do(ctx, http.MethodGet, "/status", nil, &s)
}

// Returns asks who came back to the greylist.
func (m Client) Returns(ctx context.Context) (r greylist.Report, err error) {
	return r, m.c.Do(ctx, http.MethodGet, "/returns", nil, &r)
}

// Check asks whether the mail role would take the configuration file as it is.
func (m Client) Check(ctx context.Context) error {
	return m.c.Do(ctx, http.MethodPost, "/check", nil, nil)
}

// Reload has the mail role take it.
func (m Client) Reload(ctx context.Context) (r Reloaded, err error) {
	return r, m.c.Do(ctx, http.MethodPost, "/reload", nil, &r)
}

// Networks calls each for the networks of a feed or a provider.
func (m Client) Networks(ctx context.Context, name string, each func(netip.Prefix) error) error {
	return m.c.Stream(ctx, http.MethodGet, "/networks?name="+url.QueryEscape(name), nil, decoded(each))
}

// Fetch has a feed looked at now.
func (m Client) Fetch(ctx context.Context, q FetchRequest) (s feed.Status, err error) {
	return s, m.c.Do(ctx, http.MethodPost, "/fetch", q, &s)
}

// Entries are those of the lists.
func (m Client) Entries(ctx context.Context) (all []access.Entry, err error) {
	return all, m.c.Stream(ctx, http.MethodGet, "/lists", nil, decoded(func(e access.Entry) error {
		all = append(all, e)
		return nil
	}))
}

// AddEntries adds all of them, or none.
func (m Client) AddEntries(ctx context.Context, entries []access.Entry) (l Imported, err error) {
	text, write := io.Pipe()
	go func() { write.CloseWithError(access.Write(write, entries)) }()
	return l, m.c.Do(ctx, http.MethodPost, "/lists/add", text, &l)
}

// RemoveEntry takes an entry out.
func (m Client) RemoveEntry(ctx context.Context, e access.Entry) error {
	return m.c.Do(ctx, http.MethodPost, "/lists/remove", e, nil)
}

// Maintain closes the door, or opens it (the zero Shut).
func (m Client) Maintain(ctx context.Context, s Shut) error {
	return m.c.Do(ctx, http.MethodPost, "/maintenance", s, nil)
}

// GeoHits asks which senders that are known rules of [geo] hit.
func (m Client) GeoHits(ctx context.Context, q GeoHitsRequest) (hits []GeoHit, err error) {
	return hits, m.c.Do(ctx, http.MethodPost, "/geo-hits", q, &hits)
}

// Complain passes a complaint on.
func (m Client) Complain(ctx context.Context, q Complaint) (d Complained, err error) {
	return d, m.c.Do(ctx, http.MethodPost, "/complain", q, &d)
}

// Top is the mail role's part of what weir top shows, most lines of each kind.
func (m Client) Top(ctx context.Context, most int) (v Top, err error) {
	return v, m.c.Do(ctx, http.MethodPost, "/top", TopRequest{most}, &v)
}

// Would calls each for those who would have been banned since a moment.
func (m Client) Would(ctx context.Context, since time.Time, each func(record.WouldBan) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/would", WouldRequest{since}, decoded(each))
}

// WouldRefuse calls each for what checks only told of since a moment.
func (m Client) WouldRefuse(ctx context.Context, since time.Time, each func(record.WouldRefuse) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/would-refuse", WouldRequest{since}, decoded(each))
}

// decoded is each for what comes as JSON.
func decoded[T any](each func(T) error) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		return each(v)
	}
}

package main

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

// mailSocket is where the mail role takes the operator's questions.
func mailSocket(runDir string) string { return filepath.Join(runDir, "mail", "control.sock") }

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
	return m.c.Stream(ctx, http.MethodPost, "/evidence", evidenceRequest{refs}, decoded(each))
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

func (m mailClient) networks(ctx context.Context, name string, each func(netip.Prefix) error) error {
	return m.c.Stream(ctx, http.MethodGet, "/networks?name="+url.QueryEscape(name), nil, decoded(each))
}

func (m mailClient) fetch(ctx context.Context, q fetchRequest) (s feed.Status, err error) {
	return s, m.c.Do(ctx, http.MethodPost, "/fetch", q, &s)
}

func (m mailClient) entries(ctx context.Context) (all []access.Entry, err error) {
	return all, m.c.Stream(ctx, http.MethodGet, "/lists", nil, decoded(func(e access.Entry) error {
		all = append(all, e)
		return nil
	}))
}

func (m mailClient) addEntries(ctx context.Context, entries []access.Entry) (l imported, err error) {
	text, write := io.Pipe()
	go func() { write.CloseWithError(access.Write(write, entries)) }()
	return l, m.c.Do(ctx, http.MethodPost, "/lists/add", text, &l)
}

func (m mailClient) removeEntry(ctx context.Context, e access.Entry) error {
	return m.c.Do(ctx, http.MethodPost, "/lists/remove", e, nil)
}

func (m mailClient) maintain(ctx context.Context, s shut) error {
	return m.c.Do(ctx, http.MethodPost, "/maintenance", s, nil)
}

func (m mailClient) geoHits(ctx context.Context, q geoHitsRequest) (hits []geoHit, err error) {
	return hits, m.c.Do(ctx, http.MethodPost, "/geo-hits", q, &hits)
}

func (m mailClient) complain(ctx context.Context, q complaintRequest) (d complained, err error) {
	return d, m.c.Do(ctx, http.MethodPost, "/complain", q, &d)
}

// top is the mail role's part of what weir top shows, most lines of each kind.
func (m mailClient) top(ctx context.Context, most int) (v topView, err error) {
	return v, m.c.Do(ctx, http.MethodPost, "/top", topRequest{most}, &v)
}

// would calls each for those who would have been banned since a moment.
func (m mailClient) would(ctx context.Context, since time.Time, each func(record.WouldBan) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/would", wouldRequest{since}, decoded(each))
}

// wouldRefuse calls each for what checks only told of since a moment.
func (m mailClient) wouldRefuse(ctx context.Context, since time.Time, each func(record.WouldRefuse) error) error {
	return m.c.Stream(ctx, http.MethodPost, "/would-refuse", wouldRequest{since}, decoded(each))
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

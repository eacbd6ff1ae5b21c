package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mailweir/smtp"
)

// Domain is where mail of one domain goes.
type Domain struct {
	Name           string     // lower case, A-labels
	Backends       []*Backend // in order
	Recipients     string     // "backend", "any", or "file:" and a path
	MaxMessageSize int64      // bytes; 0: no limit of the domain's own
}

// Router implements smtp.Router over a fixed set of domains. A changed
// configuration makes a new one over the same Memory.
type Router struct {
	routes   map[string]*route
	backends []*Backend
}

type route struct {
	domain    Domain
	name      string
	directory *directory
	list      *List // for file:
	oracle    smtp.Oracle
	deliverer smtp.Deliverer
}

// NewRouter makes the routes. It reads recipient files and connects to nobody.
func NewRouter(domains []Domain, m *Memory) (*Router, error) {
	r := &Router{routes: make(map[string]*route, len(domains))}
	seen := make(map[*Backend]bool)
	for _, d := range domains {
		route, err := newRoute(d, m)
		if err != nil {
			return nil, fmt.Errorf("set up route of %s: %w", d.Name, err)
		}
		r.routes[d.Name] = route
		for _, b := range d.Backends {
			if !seen[b] {
				seen[b] = true
				r.backends = append(r.backends, b)
			}
		}
	}
	return r, nil
}

func newRoute(d Domain, m *Memory) (*route, error) {
	if len(d.Backends) == 0 {
		return nil, errors.New("it has no backend; name one in backends")
	}
	r := &route{domain: d, directory: newDirectory(d.Name, d.Backends, m.cache, m.life)}
	var names []string
	for _, b := range d.Backends {
		names = append(names, b.name)
	}
	r.name = strings.Join(names, ",") // the same list, the same transaction
	r.deliverer = &deliverer{courier{d.Backends}, r.directory, m.outcomes, m.life}
	path, isFile := strings.CutPrefix(d.Recipients, "file:")
	switch {
	case d.Recipients == "" || d.Recipients == "backend":
		r.oracle = r.directory
	case d.Recipients == "any":
		r.oracle = everyone{r.directory}
	case isFile:
		list, err := OpenList(path, d.Name)
		if err != nil {
			return nil, err
		}
		r.list, r.oracle = list, listed{list, r.directory}
	default:
		return nil, fmt.Errorf("recipients = %q is not served; write \"backend\", \"any\" or \"file:PATH\"", d.Recipients)
	}
	return r, nil
}

// Route implements smtp.Router. What the backends announced at their last EHLO
// is in it; one that was not asked yet can do everything.
func (r *Router) Route(domain string) (smtp.Route, bool) {
	t, ok := r.routes[domain]
	if !ok {
		return smtp.Route{}, false
	}
	out := smtp.Route{
		Name: t.name, SMTPUTF8: true, MaxMessageSize: t.domain.MaxMessageSize,
		Oracle: t.oracle, Deliverer: t.deliverer,
	}
	for _, b := range t.domain.Backends {
		ext, met := b.health.extensions()
		if !met {
			continue
		}
		out.SMTPUTF8 = out.SMTPUTF8 && ext.smtputf8
		if ext.size > 0 && (out.MaxMessageSize == 0 || ext.size < out.MaxMessageSize) {
			out.MaxMessageSize = ext.size
		}
	}
	return out, true
}

// Probe asks the backends of a domain for a recipient that was good and for one
// that cannot exist; false: no such route. How often is the caller's matter.
func (r *Router) Probe(ctx context.Context, domain string) (Canary, bool) {
	t, ok := r.routes[domain]
	if !ok {
		return Canary{}, false
	}
	return t.directory.probe(ctx), true
}

const (
	tendEvery  = 10 * time.Second
	checkQuiet = 30 * time.Second // a backend that nobody spoke to for so long is greeted
)

// Run looks after the backends until ctx is done: greets those that nobody
// speaks to, so that status is never older than a minute, and lets idle
// connections go. At its end it lets all of them go; the Router can still be
// used, as sessions that began before a reload do.
func (r *Router) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, b := range r.backends {
		all.Go(func() { b.tend(ctx) })
	}
	all.Wait()
}

func (b *Backend) tend(ctx context.Context) {
	defer b.sending.close()
	defer b.asking.close()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		if b.maildir == nil && b.health.quietSince(time.Now().Add(-checkQuiet)) {
			b.check(ctx)
		}
		select {
		case <-tick.C:
			b.asking.expire(time.Now())
			b.sending.expire(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// check greets a backend, on a fresh connection, which then serves the next
// question.
func (b *Backend) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	release, err := b.asking.lane(ctx, true)
	if err != nil {
		return
	}
	defer release()
	begun := time.Now()
	c, err := b.dial(ctx)
	now := time.Now()
	b.health.dialled(now, c, err, ctx.Err() != nil)
	if err != nil {
		f := b.failed(err)
		b.health.saw(answer{now, now.Sub(begun), f.stage, "", f.meaning, f.words()})
		return
	}
	b.asking.put(c)
	b.health.saw(answer{now, now.Sub(begun), AtTLS, "", Taken, "220 " + c.name})
}

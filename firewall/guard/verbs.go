package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"

	"mailweir/control"
	"mailweir/firewall"
)

// told is how many bans an answer names one by one.
const told = 1000

// routes are the operator's verbs.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /status", control.Handle(func(r *http.Request, _ control.None) (Status, error) {
		return s.status(r.Context()), nil
	}))
	mux.Handle("GET /counters", control.Handle(func(r *http.Request, _ control.None) (map[string]firewall.Counters, error) {
		return s.engines.counters(r.Context()), nil
	}))
	mux.Handle("GET /bans", control.Stream(s.verbBans))
	mux.Handle("GET /why", control.Handle(s.verbWhy))
	mux.Handle("POST /ban", control.Handle(s.verbBan))
	mux.Handle("POST /ban-text", control.HandleText(s.verbBanText))
	mux.Handle("POST /unban", control.Handle(s.verbUnban))
	mux.Handle("GET /allow", control.Handle(func(*http.Request, control.None) ([]AllowEntry, error) {
		return append([]AllowEntry{}, s.allow.list()...), nil
	}))
	mux.Handle("POST /allow", control.Handle(s.verbAllow))
	mux.Handle("POST /disallow", control.Handle(s.verbDisallow))
	mux.Handle("POST /confirm", control.Handle(s.verbConfirm))
	mux.Handle("POST /switch", control.Handle(s.verbSwitch))
	mux.Handle("POST /reload", control.Handle(s.verbReload))
	return mux
}

func (s *Server) verbBan(r *http.Request, in BanRequest) (Change, error) {
	order := firewall.Order{Prefix: in.Prefix, Why: in.Why}
	order.For, order.Forever = in.For.order()
	c, wrong, err := s.banOnTerms(r.Context(), []firewall.Order{order}, in.TrialTerms)
	if wrong != nil {
		return Change{}, control.Refusef("%v", wrong[0].Err)
	}
	for i := range c.Bans {
		c.Bans[i].Why = in.Why
	}
	return c, err
}

func (s *Server) verbBanText(r *http.Request, body io.Reader) (Change, error) {
	text, err := readBanText(body)
	if err != nil {
		return Change{}, fmt.Errorf("read the list: %w", err)
	}
	if err := text.err(); err != nil {
		return Change{}, err
	}
	var rest BanRequest
	if how := r.URL.Query().Get("rest"); how != "" {
		if err := json.Unmarshal([]byte(how), &rest); err != nil {
			return Change{}, control.Usagef("read what goes for all lines: %v", err)
		}
	}
	text.fill(rest)
	c, wrong, err := s.banOnTerms(r.Context(), text.orders, rest.TrialTerms)
	for _, w := range wrong {
		text.fault(text.lines[w.Index], w.Err)
	}
	if err := text.err(); err != nil {
		return Change{}, err
	}
	return c, err
}

// banOnTerms makes the bans of all orders or none; those that are risky are on
// trial.
func (s *Server) banOnTerms(ctx context.Context, orders []firewall.Order, terms TrialTerms) (Change, []firewall.OrderError, error) {
	if err := terms.check(); err != nil {
		return Change{}, nil, err
	}
	s.present.tell(terms.From)
	s.lookForOperators()
	s.trying.Lock()
	defer s.trying.Unlock()
	orders, trial := s.tried(orders, terms)
	if !trial.empty() {
		if err := s.trials.add(trial); err != nil {
			return Change{}, nil, err
		}
	}
	bans, wrong := s.ban(ctx, orders)
	if wrong != nil {
		return Change{}, wrong, s.trials.end([]Trial{trial}, false)
	}
	c := s.banned(bans, "")
	if !trial.empty() {
		c.Trial = &trial
		return c, nil, nil
	}
	return c, nil, s.trials.forget(prefixesOf(bans), netip.Prefix{})
}

// ban makes the bans of all orders or none, and has them enforced.
func (s *Server) ban(ctx context.Context, orders []firewall.Order) ([]firewall.Ban, []firewall.OrderError) {
	s.order.Lock()
	bans, wrong := s.ledger.Ban(orders)
	s.engines.change(ctx, bans, nil)
	s.order.Unlock()
	s.resetSessions(prefixesOf(bans)...)
	if len(bans) > told {
		s.cfg.Log.Info("banned by the operator", "bans", len(bans))
		s.logs.changed(operator, "bans", fmt.Sprintf("%d bans from a list", len(bans)))
		return bans, wrong
	}
	why := map[netip.Prefix]string{}
	for _, o := range orders {
		why[o.Prefix] = o.Why
	}
	for _, b := range bans {
		s.logs.banned(b, why[b.Prefix], s.enforcing())
	}
	return bans, wrong
}

func prefixesOf(bans []firewall.Ban) []netip.Prefix {
	list := make([]netip.Prefix, len(bans))
	for i, b := range bans {
		list[i] = b.Prefix
	}
	return list
}

func (s *Server) banned(bans []firewall.Ban, why string) Change {
	c := Change{Count: len(bans), Warnings: s.warnings()}
	if len(bans) <= told {
		for _, b := range bans {
			c.Bans = append(c.Bans, info(firewall.Entry{Ban: b, Why: why}))
		}
	}
	return c
}

// warnings say what a verb that was done does not yet mean, after a try to
// put it on the disk.
func (s *Server) warnings() (list []string) {
	if err := s.ledger.Save(); err != nil {
		list = append(list, fmt.Sprintf("it holds now, but is not on the disk: %v (make room; it is tried again)", err))
	}
	if state := s.firewall(); state != "on" {
		return append(list, fmt.Sprintf("the firewall is %s: the kernel drops nothing", state))
	}
	if !slices.ContainsFunc(s.engines.list, (*engine).working) {
		list = append(list, "no engine works, the kernel drops nothing yet: see `weir status`")
	}
	return list
}

func (s *Server) verbUnban(r *http.Request, in prefixRequest) (Change, error) {
	prefix, err := canonicalOrUsage(in.Prefix)
	if err != nil {
		return Change{}, err
	}
	s.trying.Lock() // until its trial is off the list: a confirmation would ban it again
	defer s.trying.Unlock()
	s.order.Lock()
	lifted, above := s.ledger.Lift(prefix)
	shown := s.shown(r.Context(), lifted) // before the engines forget what they counted
	s.engines.change(r.Context(), nil, lifted)
	s.order.Unlock()
	if len(lifted) == 0 {
		if len(above) > 0 {
			return Change{}, control.Refusef("%s", stillIn(prefix, above[0]))
		}
		return Change{}, control.Refusef("%v is not banned: see `weir bans`", prefix)
	}
	c := Change{Count: len(lifted), Lifted: shown, Warnings: s.warnings()}
	prefixes := make([]netip.Prefix, len(lifted))
	for i, b := range lifted {
		prefixes[i] = b.Prefix
	}
	if err := s.trials.forget(prefixes, netip.Prefix{}); err != nil {
		c.Warnings = append(c.Warnings, err.Error())
	}
	for _, b := range above {
		c.Warnings = append(c.Warnings, stillIn(prefix, b))
	}
	if len(lifted) > told {
		s.cfg.Log.Info("lifted by the operator", "bans", len(lifted), "within", prefix)
		s.logs.changed(operator, "bans", fmt.Sprintf("%d bans within %v lifted", len(lifted), prefix))
		return c, nil
	}
	for _, b := range lifted {
		s.logs.lifted(b)
	}
	return c, nil
}

// shown is what a verb tells of bans, unless they are too many to be told.
func (s *Server) shown(ctx context.Context, bans []firewall.Ban) []BanInfo {
	if len(bans) > told {
		return nil
	}
	entries := make([]firewall.Entry, len(bans))
	for i, b := range bans {
		entries[i].Ban = b
	}
	return s.infos(ctx, entries)
}

func stillIn(prefix netip.Prefix, above firewall.Ban) string {
	return fmt.Sprintf("%v lies in %v, which an operator banned: unban that, or let this one in with `weir allow %v`", prefix, above.Prefix, prefix)
}

func (s *Server) verbAllow(r *http.Request, in AllowRequest) (Change, error) {
	prefix, err := canonicalOrUsage(in.Prefix)
	if err != nil {
		return Change{}, err
	}
	e := AllowEntry{Prefix: prefix, Time: s.cfg.Now(), Why: in.Why, Author: in.Author}
	if length, forever := in.For.order(); length > 0 && !forever {
		e.Until = e.Time.Add(length)
	}
	s.verbs.Lock()
	defer s.verbs.Unlock()
	if err := s.allow.add(e); err != nil {
		return Change{}, err
	}
	if err := s.trials.forget(nil, prefix); err != nil {
		return Change{}, err
	}
	s.cfg.Log.Info("allowed", "prefix", prefix, "until", e.Until, "why", e.Why, "author", e.Author)
	s.logs.changed(e.Author, "allow", fmt.Sprintf("%v allowed: %s", prefix, e.Why))
	return s.relook(r.Context(), prefix)
}

// relook makes a change of the lists felt before the verb answers. The bans
// under prefix are lifted by the guards that look makes.
func (s *Server) relook(ctx context.Context, prefix netip.Prefix) (Change, error) {
	standing, _ := s.ledger.At(prefix)
	shown := s.infos(ctx, standing[:min(len(standing), told)]) // what the engines counted is gone afterwards
	if err := s.look(ctx); err != nil {
		return Change{}, err
	}
	s.engines.settle(ctx)
	c := Change{Warnings: s.warnings()}
	for i, e := range standing {
		if _, stands := s.ledger.Exactly(e.Prefix); stands {
			continue
		}
		if c.Count++; i < len(shown) {
			c.Lifted = append(c.Lifted, shown[i])
		}
	}
	return c, nil
}

func (s *Server) verbDisallow(r *http.Request, in disallowRequest) (Change, error) {
	prefix, err := canonicalOrUsage(in.Prefix)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return Change{}, err
	}
	s.present.tell(in.From)
	s.lookForOperators()
	s.verbs.Lock()
	defer s.verbs.Unlock()
	if tried, found := s.trials.removed(prefix); found {
		if in.NoTrial {
			return Change{Warnings: s.warnings()}, s.trials.end([]Trial{tried}, true)
		}
		return Change{Warnings: s.warnings(), Trial: &tried}, nil
	}
	trial := Trial{}
	if length := in.length(true); length > 0 {
		if e, found := s.allow.exactly(prefix); found {
			trial = Trial{Until: s.cfg.Now().Add(length), Allow: &e}
			if err := s.trials.add(trial); err != nil {
				return Change{}, err
			}
		}
	}
	if err := s.allow.remove(prefix); err != nil {
		return Change{}, errors.Join(err, s.trials.end([]Trial{trial}, false))
	}
	s.cfg.Log.Info("allow entry removed", "prefix", prefix, "trial", !trial.empty())
	s.logs.changed(operator, "allow", fmt.Sprintf("%v not allowed any more", prefix))
	c, err := s.relook(r.Context(), prefix)
	if !trial.empty() {
		c.Trial = &trial
	}
	return c, err
}

func (s *Server) verbSwitch(r *http.Request, in switchRequest) (Change, error) {
	s.verbs.Lock()
	defer s.verbs.Unlock()
	if in.On && !s.currentPolicy().Enabled {
		return Change{}, control.Refusef("the firewall is disabled by the configuration: set firewall.enabled = true and reload")
	}
	noted := keepSwitch(s.cfg.StateDir, switched{Off: !in.On, Time: s.cfg.Now()})
	if noted != nil && in.On { // a note of off that the disk does not give up is not obeyed again
		s.overruled = readSwitch(s.cfg.StateDir).Time
	}
	s.off.Store(!in.On)
	s.engines.want(s.enforcing())
	s.engines.settle(r.Context())
	s.cfg.Log.Info("firewall switched by the operator", "on", in.On)
	s.logs.changed(operator, "firewall", map[bool]string{true: "on", false: "off"}[in.On])
	c := Change{}
	for _, e := range s.engines.list {
		for _, p := range e.troubles() {
			c.Warnings = append(c.Warnings, e.name+": "+p)
		}
	}
	if noted != nil {
		c.Warnings = append(c.Warnings, fmt.Sprintf("it holds until guard starts again: %v", noted))
	}
	return c, nil
}

func (s *Server) verbReload(r *http.Request, terms TrialTerms) (Change, error) {
	if err := terms.check(); err != nil {
		return Change{}, err
	}
	if s.cfg.Reload == nil {
		return Change{}, control.Refusef("this guard was started without a file to read again: restart it")
	}
	p, err := s.cfg.Reload(r.Context())
	if err != nil {
		return Change{}, fmt.Errorf("nothing was changed: %w", err)
	}
	s.verbs.Lock()
	defer s.verbs.Unlock()
	s.present.tell(terms.From)
	s.policy.Store(&p)
	trial := s.tryPlaces(p, terms, true)
	s.ledger.SetTerms(s.terms(p))
	s.lookup(r.Context())
	if err := s.look(r.Context()); err != nil {
		return Change{}, err
	}
	s.engines.want(s.enforcing())
	s.engines.settle(r.Context())
	return Change{Warnings: s.warnings(), Trial: trial}, nil
}

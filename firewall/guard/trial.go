package guard

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mailweir/control"
	"mailweir/firewall"
	"mailweir/geo"
)

// What can cut off more people than meant, the operator among them, is in force
// on trial first: a ban of a short prefix, a country or network in [geo], and an
// allow entry that is taken out. It is undone unless it is confirmed in time.
//
// Each trial is on the disk before it has an effect, so that no death of guard
// makes one last. A ban on trial is one in the ledger and the kernel that ends
// with the trial, whoever is alive then; what is undone by us is undone at the
// next start where the time passed meanwhile.
const (
	trialFor     = 5 * time.Minute // unless the operator says otherwise
	longestTrial = 24 * time.Hour
	wide4        = 16 // prefixes of so many bits and fewer are a provider's, or a country's
	wide6        = 32
)

// TrialTerms say how a change is tried. The zero value tries what is risky for
// five minutes.
type TrialTerms struct {
	ConfirmWithin Duration `json:"confirm_within,omitzero"` // of any change, risky or not
	NoTrial       bool     `json:"no_trial,omitempty"`      // it is in force for good at once
	From          Session  `json:"from,omitzero"`           // who gives the order
}

func (t TrialTerms) check() error {
	switch {
	case t.NoTrial && t.ConfirmWithin != 0:
		return control.Usagef("a change is either tried or not: say --confirm-within or --no-trial")
	case t.ConfirmWithin < 0 || t.ConfirmWithin > Duration(longestTrial):
		return control.Usagef("a trial lasts %v at the most", longestTrial)
	}
	return nil
}

// length is how long a change is tried; 0: not at all.
func (t TrialTerms) length(risky bool) time.Duration {
	switch {
	case t.NoTrial:
		return 0
	case t.ConfirmWithin > 0:
		return t.ConfirmWithin.Time()
	case risky:
		return trialFor
	}
	return 0
}

// wide says whether a ban of p is risky.
func wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() <= wide4
	}
	return p.Bits() <= wide6
}

// Trial is a change that is undone at Until, unless it is confirmed. One of
// Bans, Allow and Places says what it is.
type Trial struct {
	Since  time.Time   `json:"since,omitzero"` // of Places
	Until  time.Time   `json:"until"`
	Bans   []HeldBan   `json:"bans,omitempty"`   // made
	Allow  *AllowEntry `json:"allow,omitempty"`  // taken out
	Places []string    `json:"places,omitempty"` // in force: "geo.drop NL"
}

// HeldBan is what a ban on trial becomes once it is confirmed.
type HeldBan struct {
	Prefix netip.Prefix `json:"prefix"`
	Until  time.Time    `json:"until"`
	Why    string       `json:"why,omitempty"`
	// Before is when the ban ends whose place it takes, if there is one: what
	// is undone leaves that as it was.
	Before time.Time `json:"before,omitzero"`
}

// String is a Trial in words that go with "is on trial".
func (t Trial) String() string {
	switch {
	case t.Allow != nil:
		return fmt.Sprintf("that %v is not allowed any more", t.Allow.Prefix)
	case len(t.Places) > 0:
		return strings.Join(t.Places, ", ")
	case len(t.Bans) == 1:
		return fmt.Sprintf("the ban of %v", t.Bans[0].Prefix)
	case len(t.Bans) > 0:
		return fmt.Sprintf("the bans of %v and %d more", t.Bans[0].Prefix, len(t.Bans)-1)
	}
	return "nothing"
}

func (t Trial) empty() bool { return len(t.Bans) == 0 && t.Allow == nil && len(t.Places) == 0 }

// trials is what is on trial, and which places may be in force.
type trials struct {
	path string
	now  func() time.Time

	mu   sync.Mutex
	kept keptTrials
}

// keptTrials is what is on the disk.
type keptTrials struct {
	Trials []Trial `json:"trials"`
	// Rules of [geo] that are in force for good; null before the first start,
	// which takes the file as it is.
	Accepted []string `json:"accepted"`
	Undone   []string `json:"undone,omitempty"` // were not confirmed, and still are in the file
}

// openTrials reads what is on trial. What cannot be read is moved aside with an
// alarm, and the file of the configuration is taken as it is.
func openTrials(path string, now func() time.Time) (t *trials, alarm string) {
	t = &trials{path: path, now: now}
	err := readJSON(path, &t.kept)
	if err == nil {
		t.clamp()
		return t, ""
	}
	t.kept = keptTrials{}
	aside := fmt.Sprintf("%s.damaged-%d", path, now().Unix())
	err = errors.Join(err, os.Rename(path, aside))
	return t, fmt.Sprintf("what is on trial cannot be read (%v): it was moved to %s; see weir lists whether an allow entry is missing", err, aside)
}

// clamp ends trials in the time that one can have, whatever became of the clock.
func (t *trials) clamp() {
	latest := t.now().Add(longestTrial)
	for i := range t.kept.Trials {
		if t.kept.Trials[i].Until.After(latest) {
			t.kept.Trials[i].Until = latest
		}
	}
}

// begin makes a change of what is kept, on the disk first.
func (t *trials) begin(do func(k *keptTrials)) error { return t.change(true, do) }

// settle makes a change that holds whatever the disk says: the next start finds
// the same out again.
func (t *trials) settle(do func(k *keptTrials)) error { return t.change(false, do) }

func (t *trials) change(onDisk bool, do func(k *keptTrials)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := keptTrials{Trials: slices.Clone(t.kept.Trials), Accepted: slices.Clone(t.kept.Accepted), Undone: slices.Clone(t.kept.Undone)}
	do(&next)
	next.Trials = slices.DeleteFunc(next.Trials, Trial.empty)
	err := writeJSON(t.path, next)
	if err == nil || !onDisk {
		t.kept = next
	}
	if err != nil {
		return fmt.Errorf("note what is on trial: %w (make room on the disk)", err)
	}
	return nil
}

// list is what is on trial now.
func (t *trials) list() []Trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.kept.Trials), t.over)
}

func (t *trials) over(one Trial) bool { return !one.Until.After(t.now()) }

// due is what has to be undone.
func (t *trials) due() []Trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.kept.Trials), func(one Trial) bool { return !t.over(one) })
}

// removed is the allow entry of a prefix whose removal is on trial.
func (t *trials) removed(p netip.Prefix) (one Trial, found bool) {
	for _, one := range t.list() {
		if one.Allow != nil && one.Allow.Prefix == p {
			return one, true
		}
	}
	return Trial{}, false
}

// add puts a change on trial; what was on trial of the same things is replaced.
func (t *trials) add(one Trial) error {
	return t.begin(func(k *keptTrials) {
		for _, b := range one.Bans {
			k.withoutBans(func(p netip.Prefix) bool { return p == b.Prefix })
		}
		k.Trials = append(k.Trials, one)
	})
}

func (k *keptTrials) withoutBans(of func(netip.Prefix) bool) {
	for i := range k.Trials {
		k.Trials[i].Bans = slices.DeleteFunc(slices.Clone(k.Trials[i].Bans), func(b HeldBan) bool { return of(b.Prefix) })
	}
}

// forget ends the trials of bans and removals that no longer are: they were
// lifted, made anew, or allowed again.
func (t *trials) forget(bans []netip.Prefix, allow netip.Prefix) error {
	hit := func(one Trial) bool {
		return one.Allow != nil && one.Allow.Prefix == allow ||
			slices.ContainsFunc(one.Bans, func(b HeldBan) bool { return slices.Contains(bans, b.Prefix) })
	}
	if !slices.ContainsFunc(t.list(), hit) {
		return nil
	}
	return t.settle(func(k *keptTrials) {
		k.withoutBans(func(p netip.Prefix) bool { return slices.Contains(bans, p) })
		for i := range k.Trials {
			if a := k.Trials[i].Allow; a != nil && a.Prefix == allow {
				k.Trials[i].Allow = nil
			}
		}
	})
}

// end takes trials off the list; confirmed, what they hold is in force for good.
func (t *trials) end(ended []Trial, confirmed bool) error {
	ended = slices.DeleteFunc(slices.Clone(ended), Trial.empty)
	if len(ended) == 0 {
		return nil
	}
	return t.settle(func(k *keptTrials) {
		k.Trials = slices.DeleteFunc(k.Trials, func(one Trial) bool {
			return slices.ContainsFunc(ended, func(e Trial) bool { return e.Until.Equal(one.Until) && e.String() == one.String() })
		})
		for _, e := range ended {
			if confirmed {
				k.Accepted = append(k.Accepted, e.Places...)
			} else {
				k.Undone = append(k.Undone, e.Places...)
			}
		}
	})
}

// places takes in which rules the file has. Those that are new are on trial for
// so long, 0: in force for good. Those that were undone are tried again only
// when asked to. It returns the trial begun, if there is one.
func (t *trials) places(file []string, length time.Duration, again bool) (begun *Trial, err error) {
	t.mu.Lock()
	k := t.kept
	t.mu.Unlock()
	left := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(rule string) bool { return !slices.Contains(file, rule) })
	}
	accepted, undone := left(k.Accepted), left(k.Undone)
	if again {
		undone = nil
	}
	onTrial := k.onTrial()
	var fresh []string
	for _, rule := range file {
		if !slices.Contains(accepted, rule) && !slices.Contains(undone, rule) && !slices.Contains(onTrial, rule) {
			fresh = append(fresh, rule)
		}
	}
	if k.Accepted == nil || length == 0 {
		accepted, fresh = append(accepted, fresh...), nil
	}
	if k.Accepted != nil && len(fresh) == 0 && slices.Equal(accepted, k.Accepted) && slices.Equal(undone, k.Undone) && len(left(onTrial)) == len(onTrial) {
		return nil, nil
	}
	if len(fresh) > 0 {
		begun = &Trial{Since: t.now(), Until: t.now().Add(length), Places: fresh}
	}
	return begun, t.settle(func(k *keptTrials) {
		k.Accepted, k.Undone = append([]string{}, accepted...), undone
		for i := range k.Trials {
			k.Trials[i].Places = left(k.Trials[i].Places)
		}
		if begun != nil {
			k.Trials = append(k.Trials, *begun)
		}
	})
}

func (k *keptTrials) onTrial() (rules []string) {
	for _, one := range k.Trials {
		rules = append(rules, one.Places...)
	}
	return rules
}

// undone are rules of the file that are not in force.
func (t *trials) undone() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.Undone
}

// inForce are the rules of a key that may be.
func (t *trials) inForce(key string, rules []geo.Rule) []geo.Rule {
	t.mu.Lock()
	defer t.mu.Unlock()
	onTrial := t.kept.onTrial()
	return slices.DeleteFunc(slices.Clone(rules), func(r geo.Rule) bool {
		name := placeRule(key, r)
		return !slices.Contains(t.kept.Accepted, name) && !slices.Contains(onTrial, name)
	})
}

// The keys of [geo] whose rules are tried.
const (
	keyDrop = "geo.drop"
	keyBan  = "geo.ban"
)

func placeRule(key string, r geo.Rule) string { return key + " " + r.String() }

// placeRules are the rules of a policy by their names.
func placeRules(p Policy) (names []string) {
	for _, r := range p.Deny {
		names = appendNew(names, placeRule(keyDrop, r))
	}
	for _, r := range p.Banish {
		names = appendNew(names, placeRule(keyBan, r))
	}
	return names
}

// tried splits orders that are tried: they stand until the trial is over, and
// what they become once confirmed is in the trial. An order that is over by then
// needs none, nor one that changes the end of a ban that an operator made.
func (s *Server) tried(orders []firewall.Order, terms TrialTerms) ([]firewall.Order, Trial) {
	now := s.cfg.Now()
	t := Trial{}
	var out []firewall.Order
	for i, o := range orders {
		p := firewall.Canonical(o.Prefix)
		length := terms.length(wide(p) && !s.standsFor(p))
		if length == 0 || !p.IsValid() {
			continue
		}
		end := s.ledger.Until(o)
		if !end.After(now.Add(length)) {
			continue
		}
		if out == nil {
			out = slices.Clone(orders)
			t.Until = now.Add(length)
		}
		before := s.before(p)
		t.Bans = append(t.Bans, HeldBan{Prefix: p, Until: end, Why: o.Why, Before: before})
		out[i].For, out[i].Forever = max(length, before.Sub(now)), false
	}
	if out == nil {
		return orders, t
	}
	return out, t
}

// standsFor says that the operator banned just p already, for good.
func (s *Server) standsFor(p netip.Prefix) bool {
	ban, stands := s.ledger.Exactly(p)
	return stands && ban.Reason == firewall.Operator && !slices.ContainsFunc(s.trials.list(), func(t Trial) bool {
		return slices.ContainsFunc(t.Bans, func(b HeldBan) bool { return b.Prefix == p })
	})
}

// before is when the ban of just p ends that was no trial; zero: there is none.
func (s *Server) before(p netip.Prefix) (end time.Time) {
	for _, t := range s.trials.list() {
		for _, b := range t.Bans {
			if b.Prefix == p {
				return b.Before
			}
		}
	}
	if ban, stands := s.ledger.Exactly(p); stands {
		end = ban.Until
	}
	return end
}

// admitPlaces puts those rules of [geo] in force that are accepted or on trial.
// The caller holds verbs.
func (s *Server) admitPlaces() {
	p := s.currentPolicy()
	p.Deny, p.Banish = s.trials.inForce(keyDrop, s.wanted.Deny), s.trials.inForce(keyBan, s.wanted.Banish)
	s.policy.Store(&p)
}

// tryPlaces takes in the rules about places of a file.
func (s *Server) tryPlaces(p Policy, terms TrialTerms, again bool) *Trial {
	s.wanted = places{Deny: p.Deny, Banish: p.Banish}
	begun, err := s.trials.places(placeRules(p), terms.length(true), again)
	if err != nil {
		s.cfg.Log.Error("trials", "error", err)
	}
	if begun != nil {
		s.cfg.Log.Info("on trial", "trial", begun.String(), "until", begun.Until)
		s.logs.changed(operator, "trial", fmt.Sprintf("begun: %v", begun))
	}
	s.admitPlaces()
	return begun
}

// places are the rules about places as the file has them.
type places struct{ Deny, Banish []geo.Rule }

// verbConfirm has everything on trial in force for good.
func (s *Server) verbConfirm(r *http.Request, _ control.None) (Change, error) {
	s.verbs.Lock()
	defer s.verbs.Unlock()
	s.trying.Lock()
	defer s.trying.Unlock()
	list := s.trials.list()
	if len(list) == 0 {
		return Change{}, control.Refusef("nothing is on trial; what was not confirmed in time is undone: see `weir status`")
	}
	var orders []firewall.Order
	for _, t := range list {
		for _, b := range t.Bans {
			orders = append(orders, firewall.Order{
				Prefix: b.Prefix, For: b.Until.Sub(s.cfg.Now()), Forever: b.Until.Equal(firewall.Forever), Why: b.Why,
			})
		}
	}
	bans, wrong := s.ban(r.Context(), orders)
	if wrong != nil {
		return Change{}, control.Refusef("nothing is confirmed: %v", wrong[0].Err)
	}
	c := s.banned(bans, "")
	if err := s.trials.end(list, true); err != nil {
		c.Warnings = append(c.Warnings, err.Error())
	}
	for _, t := range list {
		s.cfg.Log.Info("confirmed", "trial", t.String())
		s.logs.changed(operator, "trial", fmt.Sprintf("confirmed: %v", t))
	}
	c.Bans, c.Confirmed = nil, list
	return c, nil
}

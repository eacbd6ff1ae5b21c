package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailweir/firewall"
)

// undoTrials undoes what was not confirmed in time. While the operator changes
// something else it waits for the next tick.
func (s *Server) undoTrials(ctx context.Context) {
	if len(s.trials.due()) == 0 || !s.verbs.TryLock() {
		return
	}
	defer s.verbs.Unlock()
	undone := s.undoDue()
	s.admitPlaces()
	if err := s.look(ctx); err != nil {
		s.cfg.Log.Error("guard cannot see the network, what it knew of it stays", "error", err)
	}
	s.order.Lock()
	bans := s.unbanish(undone)
	s.engines.change(ctx, nil, bans)
	s.order.Unlock()
}

// unbanish lifts, in the ledger, the bans that rules of geo.ban made on trial which
// are undone: those of places where no rule in force bans. A ban that another rule
// made meanwhile stays, where it is known where the source is; else it is made
// again by its next connection. Who is pardoned starts anew.
func (s *Server) unbanish(undone []Trial) (bans []firewall.Ban) {
	began, some := time.Time{}, false
	for _, t := range undone {
		if slices.ContainsFunc(t.Places, func(rule string) bool { return strings.HasPrefix(rule, keyBan+" ") }) {
			if !some || t.Since.Before(began) {
				began, some = t.Since, true
			}
		}
	}
	if !some {
		return nil
	}
	policy, began := s.currentPolicy(), began.Truncate(time.Second) // the ledger's grain
	for b := range s.ledger.Active() {
		if b.Reason == firewall.Geo && !b.Since.Before(began) && !policy.banishes(b.Prefix.Addr()) {
			bans = append(bans, b)
		}
	}
	for _, b := range bans {
		s.ledger.Lift(b.Prefix)
		s.logs.lifted(b)
	}
	return bans
}

// undoDue takes back what is over, in the lists, and returns it. Bans on trial end
// by themselves.
func (s *Server) undoDue() (due []Trial) {
	for _, t := range s.trials.due() {
		if t.Allow != nil && !s.allow.over(*t.Allow) {
			if err := s.allow.add(*t.Allow); err != nil {
				s.cfg.Log.Error("an allow entry does not come back yet, it is tried again", "prefix", t.Allow.Prefix, "error", err)
				continue
			}
		}
		due = append(due, t)
		s.cfg.Log.Warn("undone, since it was not confirmed in time", "trial", t.String())
		s.logs.changed("", "trial", fmt.Sprintf("undone, since nobody confirmed it: %v", t))
	}
	if err := s.trials.end(due, false); err != nil {
		s.cfg.Log.Error("trials", "error", err)
	}
	return due
}

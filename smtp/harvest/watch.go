// Package harvest finds out who is guessing addresses (directory harvest, the
// "rumplestiltskin" attack), from nothing but the answers that recipients got.
//
// Of each source (an IPv4 address, an IPv6 /64) it keeps the distinct
// recipients it named, each with the time at which it last counted, and holds
// sliding windows of an hour and a day against Rules:
//
//	convicted = unknown - credits >= threshold  and  unknown / (unknown + valid) >= share
//
// What does not count, because honest senders do it: the same unknown
// recipient again within seven days (a retry); a recipient that was valid once
// (a stale list); what the oracle could not tell; everything of a protected
// source. A recipient named by the null sender counts a quarter, for bounces
// of forged mail and callouts. Each distinct valid recipient that is no role
// address takes one unknown off, ten at the most (a typist's slips).
//
// A Watch is a pure machine: its state changes by events alone, each with its
// own time, so that recorded days can be played to it.
package harvest

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/dchest/siphash"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// Options are what New takes; the zero Options are those of a small system.
type Options struct {
	Key        [2]uint64 // of the recipient hashes: random, kept for as long as the state is
	MaxSources int       // 0: 1<<20. The longest idle are forgotten first, harmless ones before guessers
	MaxValid   int       // 0: 1<<20. Recipients remembered as once valid
}

// Watch is the engine. Its methods may be called concurrently.
type Watch struct {
	mu      sync.Mutex
	rules   Rules
	key     [2]uint64
	sources *table
	valid   *tombs
}

var _ smtp.Watcher = (*Watch)(nil)

// New returns a Watch that knows nobody.
func New(rules Rules, o Options) *Watch {
	if o.MaxSources == 0 {
		o.MaxSources = 1 << 20
	}
	if o.MaxValid == 0 {
		o.MaxValid = 1 << 20
	}
	return &Watch{rules: rules, key: o.Key, sources: newTable(o.MaxSources), valid: newTombs(o.MaxValid)}
}

// SetRules changes the thresholds; what sources did stays counted.
func (w *Watch) SetRules(r Rules) {
	w.mu.Lock()
	w.rules = r
	w.mu.Unlock()
}

// Sources returns how many sources are remembered.
func (w *Watch) Sources() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources.len()
}

// Recipient takes in one answered RCPT command. It returns a conviction once,
// by the guess that completes it; after that the source starts from nothing,
// so that only fresh guesses convict it again.
func (w *Watch) Recipient(now time.Time, src smtp.Source, r smtp.Recipient, nullSender bool) (smtp.Conviction, bool) {
	var k kind
	switch {
	case r.Oracle == smtp.Valid && role(r.To):
		k = validRole
	case r.Oracle == smtp.Valid:
		k = valid
	case r.Oracle == smtp.Unknown && nullSender:
		k = unknownNull
	case r.Oracle == smtp.Unknown:
		k = unknown
	default: // any, unavailable, not asked: nothing was learnt, by nobody
		return smtp.Conviction{}, false
	}
	h := siphash.Hash(w.key[0], w.key[1], []byte(strings.ToLower(r.To)))

	w.mu.Lock()
	defer w.mu.Unlock()
	if k == valid || k == validRole {
		w.valid.add(h)
	} else if w.valid.has(h) {
		return smtp.Conviction{}, false
	}
	if src.Tier == smtp.Protected {
		return smtp.Conviction{}, false
	}
	s := w.sources.get(sourceKey(src.Addr))
	fresh := s.see(now, h, k)
	if k == valid || k == validRole {
		return smtp.Conviction{}, false
	}
	w.sources.suspect(s)
	if !fresh {
		return smtp.Conviction{}, false
	}
	s.guessed(r.To)
	return w.judge(now, s, src.Tier)
}

// judge holds the windows of s against the rules of its tier.
func (w *Watch) judge(now time.Time, s *source, t smtp.Tier) (smtp.Conviction, bool) {
	for _, l := range w.rules.limits(t) {
		c := s.count(now, l.window)
		if l.count > 0 && c.weighted() >= l.count && c.share() >= l.share {
			return s.convict(l.name, l.window, c), true
		}
	}
	if c := s.count(now, hour); w.rules.UnknownPerHour > 0 && c.null >= nullPerHour && c.share() >= w.rules.SharePerHour {
		return s.convict(RuleNull, hour, c), true
	}
	return smtp.Conviction{}, false
}

func (s *source) convict(rule string, window time.Duration, c counts) smtp.Conviction {
	ev := smtp.Evidence{Rule: rule, Window: window, Unknown: c.unknown + c.null, Valid: c.valid + c.roles, Guesses: s.guesses}
	s.acquit()
	return smtp.Conviction{Reason: reply.Harvest, Evidence: ev}
}

// sourceKey is the address for IPv4 and the /64 for IPv6, as 16 bytes.
func sourceKey(a netip.Addr) [16]byte {
	a = a.Unmap()
	b := a.As16()
	if a.Is6() {
		clear(b[8:])
	}
	return b
}

// role says whether a mailbox is one that everybody knows to exist (RFC 2142),
// so that naming it shows no acquaintance.
func role(mailbox string) bool {
	local, _, _ := strings.Cut(strings.ToLower(mailbox), "@")
	switch local {
	case "postmaster", "abuse", "hostmaster", "webmaster", "info", "admin", "administrator",
		"contact", "support", "sales", "marketing", "noc", "security", "root", "mail", "office", "help":
		return true
	}
	return false
}

package harvest

import (
	"fmt"
	"path"
	"strings"
)

// Traps are spamtraps: addresses that nobody was ever given, so that whoever
// writes to them guessed, or bought a list. The zero Traps is none.
type Traps struct {
	addresses map[string]bool
	domains   map[string]bool
	patterns  []string
}

// ParseTraps reads a list of addresses (trap@example.com), patterns with * and ?
// (old-*@example.com, *@*.example.com) and whole domains (trap.example.com or
// @trap.example.com), all regardless of case.
func ParseTraps(list []string) (Traps, error) {
	t := Traps{addresses: map[string]bool{}, domains: map[string]bool{}}
	for _, s := range list {
		s = strings.ToLower(strings.TrimSpace(s))
		local, dom, at := strings.Cut(s, "@")
		switch {
		case strings.ContainsAny(s, " \t\r\n<>,") || at && dom == "" || !at && local == "" || strings.Count(s, "@") > 1:
			return Traps{}, fmt.Errorf("%q is no spamtrap: write trap@example.com, old-*@example.com, or trap.example.com for a whole domain", s)
		case !at:
			dom, s = local, "*@"+local
			if !strings.ContainsAny(dom, "*?[") {
				t.domains[dom] = true
				continue
			}
		case local == "":
			t.domains[dom] = true
			continue
		case !strings.ContainsAny(s, "*?["):
			t.addresses[s] = true
			continue
		}
		if _, err := path.Match(s, ""); err != nil {
			return Traps{}, fmt.Errorf("spamtrap %q: %w", s, err)
		}
		t.patterns = append(t.patterns, s)
	}
	return t, nil
}

// Match says whether a mailbox, lower case or not, is a trap.
func (t Traps) Match(mailbox string) bool {
	if len(t.addresses)+len(t.domains)+len(t.patterns) == 0 {
		return false
	}
	m := strings.ToLower(mailbox)
	if t.addresses[m] || t.domains[m[strings.LastIndexByte(m, '@')+1:]] {
		return true
	}
	for _, p := range t.patterns {
		if ok, err := path.Match(p, m); ok && err == nil {
			return true
		}
	}
	return false
}

package access

import (
	"net/netip"

	"mailweir/prefix"
)

// Feed is a list of prefixes that others publish. Its entries block, for
// everybody, and any entry of the operator that matches counts rather.
type Feed struct {
	Name   string
	Source string
	Bans   bool // see Entry.Bans
	Set    *prefix.Set
}

// SetFeeds puts feeds in force in place of all that were.
func (l *List) SetFeeds(feeds []Feed) { l.feeds.Store(&feeds) }

// fed is the entry of the first feed that has an address, those that ban first.
func (l *List) fed(a netip.Addr) (Entry, bool) {
	feeds := l.feeds.Load()
	if feeds == nil {
		return Entry{}, false
	}
	var found *Entry
	for i := range *feeds {
		f := &(*feeds)[i]
		if p, ok := f.Set.Find(a); ok && (found == nil || f.Bans && !found.Bans) {
			found = &Entry{Action: Block, Subject: Subject{Kind: Address, Prefix: p}, Feed: f.Name, Why: f.Source, Bans: f.Bans}
		}
	}
	if found == nil {
		return Entry{}, false
	}
	return *found, true
}

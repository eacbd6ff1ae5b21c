package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailweir/disk"
)

// maxEntries is how many entries there may be: those of some hundred megabytes.
const maxEntries = 200_000

// ErrFull says that there is no room for more entries.
var ErrFull = fmt.Errorf("the lists hold %d entries, and no more fit: remove some, or write prefixes in place of addresses", maxEntries)

// List is the lists of one machine. They are in one file, which is replaced
// whole, so that a crash leaves those of before or of after. The methods may be
// called concurrently; Find takes no lock.
type List struct {
	path string
	now  func() time.Time

	mu    sync.Mutex // of changes
	index atomic.Pointer[index]
	feeds atomic.Pointer[[]Feed]
}

// index finds entries by what they are about.
type index struct {
	entries  []Entry // in order of String
	prefixes map[netip.Prefix][]*Entry
	bits     [2][]int // lengths of prefixes that there are, by family, longest first
	names    map[string][]*Entry
	lets     []*Entry // that let in by a name
}

// Open reads the lists. One that cannot be read is moved aside: the lists are
// empty then, and the error is an alarm.
func Open(path string, now func() time.Time) (l *List, alarm error) {
	l = &List{path: path, now: now}
	var entries []Entry
	alarm = disk.Restore(path, func(f io.Reader) error { return json.NewDecoder(f).Decode(&entries) })
	if alarm != nil {
		entries = nil
	}
	l.index.Store(newIndex(entries))
	return l, alarm
}

func newIndex(entries []Entry) *index {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.key(), b.key()) })
	x := &index{entries: entries, prefixes: map[netip.Prefix][]*Entry{}, names: map[string][]*Entry{}}
	for i := range entries {
		e := &entries[i]
		if e.Subject.Kind != Address {
			if e.Action == Allow {
				x.lets = append(x.lets, e)
			}
			x.names[e.Subject.String()] = append(x.names[e.Subject.String()], e)
			continue
		}
		p := e.Subject.Prefix
		x.prefixes[p] = append(x.prefixes[p], e)
		if f := family(p.Addr()); !slices.Contains(x.bits[f], p.Bits()) {
			x.bits[f] = append(x.bits[f], p.Bits())
		}
	}
	return x
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// key is the same for entries of which one takes the place of the other.
func (e *Entry) key() string { return e.Subject.String() + " " + e.To }

// Find returns the entry that counts.
func (l *List) Find(q Query) (found Entry, ok bool) {
	x, now := l.index.Load(), l.now()
	q.Peer, q.To, q.Sender = q.Peer.Unmap().WithZone(""), strings.ToLower(q.To), strings.ToLower(q.Sender)
	var best *Entry
	look := func(list []*Entry) {
		for _, e := range list {
			if e.holds(&q, now) && (best == nil || e.weightier(best)) {
				best = e
			}
		}
	}
	x.around(q.Peer, look)
	if len(x.names) > 0 {
		for _, n := range []Subject{{Kind: RDNS, Name: q.RDNS}, {Kind: HELO, Name: q.HELO}, {Kind: From, Name: q.Sender}, {Kind: To, Name: q.To}} {
			for name := range n.names() {
				look(x.names[string(n.Kind)+":"+name])
			}
		}
	}
	if best == nil {
		return l.fed(q.Peer)
	}
	return *best, true
}

// around calls look with the entries of each prefix that a is in.
func (x *index) around(a netip.Addr, look func([]*Entry)) {
	if !a.IsValid() {
		return
	}
	for _, bits := range x.bits[family(a)] {
		p, _ := a.Prefix(bits)
		look(x.prefixes[p])
	}
}

// FindBlocked returns the entry that blocks an address whatever it goes on to
// say: none where an entry lets somebody in by his name, or lets the address in
// for a recipient, since then it is to be seen who that is and whom he writes to.
// One of a feed may ban him, see Entry.Bans.
func (l *List) FindBlocked(peer netip.Addr) (Entry, bool) {
	e, ok := l.Find(Query{Peer: peer})
	if !ok || e.Action != Block {
		return Entry{}, false
	}
	x, now, open := l.index.Load(), l.now(), false
	look := func(list []*Entry) {
		open = open || slices.ContainsFunc(list, func(e *Entry) bool {
			return e.Action == Allow && !e.over(now) && (e.Subject.Kind != Address || e.To != "")
		})
	}
	look(x.lets)
	x.around(peer.Unmap().WithZone(""), look)
	if open {
		return Entry{}, false
	}
	return e, true
}

// names are the mailbox, its domain, and each domain above.
func (s Subject) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		name := strings.ToLower(strings.TrimSuffix(s.Name, "."))
		if strings.Contains(name, "@") {
			if !yield(name) {
				return
			}
			name = DomainOf(name)
		}
		for more := name != ""; more; _, name, more = strings.Cut(name, ".") {
			if !yield(name) {
				return
			}
		}
	}
}

// Entries are those that hold now.
func (l *List) Entries() []Entry {
	now := l.now()
	return slices.DeleteFunc(slices.Clone(l.index.Load().entries), func(e Entry) bool { return e.over(now) })
}

// Add puts entries in, each in place of the one about the same subject for the
// same recipients: all of them, or with an error none.
func (l *List) Add(entries ...Entry) error {
	for i := range entries {
		if entries[i].Subject.Kind == To && entries[i].Action == Allow {
			return errors.New("a recipient can be blocked and not allowed: to let senders in for him, allow them with --to")
		}
	}
	return l.change(func(next map[string]Entry) error {
		for _, e := range entries {
			next[e.key()] = e
		}
		if len(next) > maxEntries {
			return ErrFull
		}
		return nil
	})
}

// ErrNoEntry says that there is nothing to remove.
var ErrNoEntry = errors.New("no such entry: see weir lists")

// Remove takes the entry of that action out.
func (l *List) Remove(a Action, s Subject, to string) error {
	e := Entry{Subject: s, To: to}
	return l.change(func(next map[string]Entry) error {
		if old, ok := next[e.key()]; !ok || old.Action != a {
			return ErrNoEntry
		}
		delete(next, e.key())
		return nil
	})
}

// change replaces the lists by what f makes of them; what is over goes by the way.
func (l *List) change(f func(map[string]Entry) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[string]Entry{}
	for _, e := range l.Entries() {
		next[e.key()] = e
	}
	if err := f(next); err != nil {
		return err
	}
	entries := make([]Entry, 0, len(next))
	for _, e := range next {
		entries = append(entries, e)
	}
	x := newIndex(entries)
	if err := disk.Replace(l.path, 0o600, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(x.entries)
	}); err != nil {
		return fmt.Errorf("keep the lists: %w (nothing was changed)", err)
	}
	l.index.Store(x)
	return nil
}

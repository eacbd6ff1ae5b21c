// Package geo tells the country and the autonomous system of an address.
//
// A database is one of
//
//   - a MaxMind DB file of MaxMind's or DB-IP's own types, read by
//     geoip2-golang (country, city, enterprise; ASN, ISP);
//   - a flat MaxMind DB file, such as those of @ip-location-db or ipinfo, which
//     geoip2-golang refuses, read by maxminddb-golang below it;
//   - the text files geoip and geoip6 of Debian's tor-geoipdb, which is the
//     database that comes with the program (data of the IPFire project, under
//     CC BY-SA 4.0, kept apart from the program in a folder of its own).
//
// A file is read whole and checked before it is used, so that one which is cut
// or overwritten in place can neither crash a look-up nor answer nonsense. A
// changed file is loaded by Reload; while it is damaged, the last good data
// stays in use.
package geo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Folders are where the database that comes with the program is looked for:
// files geoip and geoip6 in the first folder that has them.
var Folders = []string{"/usr/share/mailweir/geo", "/usr/share/tor"}

// Origin is where an address belongs. A field is zero where it is not known.
type Origin struct {
	Country string `json:"country,omitempty"` // ISO 3166-1 alpha-2, upper case
	ASN     uint32 `json:"asn,omitempty"`
	ASName  string `json:"as_name,omitempty"`
}

// Info describes one loaded database.
type Info struct {
	Path    string    `json:"path"`
	Type    string    `json:"type"`              // "GeoLite2-Country", "tor-geoipdb"
	Source  string    `json:"source"`            // who made it, and its licence as far as the file says
	Built   time.Time `json:"built,omitzero"`    // when it was made
	Loaded  time.Time `json:"loaded,omitzero"`   // when it was read
	Problem string    `json:"problem,omitempty"` // why a newer file is not in use, or nothing is
}

// source is one loaded database.
type source interface {
	// lookup fills what the source knows of addr into o.
	lookup(addr netip.Addr, o *Origin)
	// starts walks through all addresses of a family in order: each key begins
	// a run of addresses of one origin. What lies before the first is nowhere.
	starts(f family) iter.Seq2[u128, Origin]
	info() Info
}

// family is 4 or 6. The key of an IPv4 address is its number.
type family int

// DB answers Lookup from up to two databases. Its methods can be called from
// any goroutine.
type DB struct {
	country, asn *slot
}

// slot holds one database and what is needed to load it again.
type slot struct {
	files []string // read together; none: nothing to load
	open  func(files []string) (source, error)

	mu      sync.Mutex // of what follows
	stamp   string     // of files when they were last read, well or not
	problem string

	now atomic.Pointer[loaded]
}

type loaded struct {
	source
	at time.Time
}

// Open loads the databases: country "" is the one that comes with the program,
// which may be missing (countries are then absent, and Info says so); asn "" is
// none. The DB can be used also with an error, which then names every file that
// could not be read.
func Open(country, asn string) (*DB, error) {
	db := &DB{country: newSlot(country), asn: newSlot(asn)}
	if country == "" {
		db.country = shipped()
	}
	_, err := db.Reload()
	return db, err
}

func newSlot(path string) *slot {
	s := &slot{open: openMMDB}
	if path != "" {
		s.files = []string{path}
	}
	return s
}

func shipped() *slot {
	for _, dir := range Folders {
		files := []string{filepath.Join(dir, "geoip"), filepath.Join(dir, "geoip6")}
		if _, err := os.Stat(files[0]); err == nil {
			return &slot{files: files, open: openTor}
		}
	}
	return &slot{problem: fmt.Sprintf("no country database: set geo.database to a file, or put geoip and geoip6 of Debian's tor-geoipdb into %s", Folders[0])}
}

// Lookup tells what is known of addr.
func (db *DB) Lookup(addr netip.Addr) Origin {
	var o Origin
	addr = addr.Unmap().WithZone("")
	for _, s := range []*slot{db.country, db.asn} {
		if l := s.now.Load(); l != nil && addr.IsValid() {
			l.lookup(addr, &o)
		}
	}
	return o
}

// Info describes the databases in use, and those that are configured and are
// not in use.
func (db *DB) Info() []Info {
	var all []Info
	for _, s := range []*slot{db.country, db.asn} {
		if i, ok := s.info(); ok {
			all = append(all, i)
		}
	}
	return all
}

func (s *slot) info() (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{Problem: s.problem}
	if len(s.files) > 0 {
		i.Path = s.files[0]
	}
	if l := s.now.Load(); l != nil {
		i = l.info()
		i.Path, i.Loaded, i.Problem = s.files[0], l.at, s.problem
	}
	return i, i != Info{}
}

// Reload reads each database whose files changed since they were last read,
// and says whether any is now in use. On an error the last good one stays.
func (db *DB) Reload() (changed bool, err error) {
	for _, s := range []*slot{db.country, db.asn} {
		did, e := s.reload()
		changed, err = changed || did, errors.Join(err, e)
	}
	return changed, err
}

// Watch calls Reload every interval until ctx ends, and report after each that
// found a change, for better (nil) or worse.
func (db *DB) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if changed, err := db.Reload(); changed || err != nil {
				report(err)
			}
		}
	}
}

func (s *slot) reload() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return false, nil
	}
	stamp, err := stampOf(s.files)
	if err == nil && stamp == s.stamp {
		return false, nil
	}
	if err != nil && s.stamp == err.Error() {
		return false, nil // still missing, and said so before
	}
	var src source
	if err == nil {
		s.stamp = stamp
		src, err = s.open(s.files)
	} else {
		s.stamp = err.Error()
	}
	if err != nil {
		err = fmt.Errorf("load geo database: %w; %s", err, s.consequence())
		s.problem = err.Error()
		return false, err
	}
	s.problem = ""
	s.now.Store(&loaded{source: src, at: time.Now()})
	return true, nil
}

func (s *slot) consequence() string {
	if s.now.Load() != nil {
		return "the last good one stays in use: put a whole file there"
	}
	return "nothing is known from it until a good file is there"
}

// stampOf changes when one of the files does.
func stampOf(files []string) (string, error) {
	var stamp string
	for i, f := range files {
		info, err := os.Stat(f)
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		stamp += fmt.Sprintf("%s %d %d", f, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			stamp += fmt.Sprintf(" %d", st.Ino) // a clock of coarse ticks gives two files one time
		}
	}
	return stamp, nil
}

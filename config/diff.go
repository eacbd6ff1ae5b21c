package config

import (
	"reflect"
	"slices"
)

// Diff names the keys whose values differ between two configurations, in the
// order of the manual. Those that are read at start only are named in later:
// the old value stays in force until then.
func Diff(old, next Config) (now, later []string) {
	for _, s := range schema {
		for _, name := range s.names(&old, &next) {
			for _, k := range s.keys {
				if k.same(&old, &next, name) {
					continue
				}
				path := s.example(k, []string{s.path, name})
				if k.atStart {
					later = append(later, path)
				} else {
					now = append(now, path)
				}
			}
		}
	}
	return now, later
}

// Switched are the keys among those of Diff that are on or off, with what they
// are in next: that such a key is in force does not tell which.
func Switched(old, next Config) map[string]bool {
	is := map[string]bool{}
	for _, s := range schema {
		for _, name := range s.names(&old, &next) {
			for _, k := range s.keys {
				c := next.clone()
				if on, ok := k.place(&c, name).(*bool); ok && !k.same(&old, &next, name) {
					is[s.example(k, []string{s.path, name})] = *on
				}
			}
		}
	}
	return is
}

// Unset are the keys among those of Diff that were taken out, or are written as
// their default is, with that default as the file would have it; "" where that
// is nothing, or where the whole entry is gone.
func Unset(old, next Config) map[string]string {
	unset, usual := map[string]string{}, Default()
	for _, s := range schema {
		for _, name := range s.names(&old, &next) {
			gone := s.named && !slices.Contains(next.names(s.path), name)
			for _, k := range s.keys {
				if k.same(&old, &next, name) || !gone && !k.same(&usual, &next, name) {
					continue
				}
				text := ""
				if inherits := s.path == "domain" && k.name != "recipients"; !gone && !inherits {
					text = literal(k.defaultPlace(s))
				}
				if slices.Contains([]string{`""`, "[]", "{}"}, text) {
					text = ""
				}
				unset[s.example(k, []string{s.path, name})] = text
			}
		}
	}
	return unset
}

// InForce is next as a reload puts it in force over running: the keys that are
// read at start only stay as they are.
func InForce(running, next Config) Config {
	kept := next.clone()
	for _, s := range schema {
		for _, k := range s.keys {
			if k.atStart {
				value := reflect.ValueOf(k.place(&running, "")).Elem()
				reflect.ValueOf(k.place(&kept, "")).Elem().Set(value)
			}
		}
	}
	return kept
}

// names are the entries of a named section that either has; one "" for others.
func (s section) names(old, next *Config) (names []string) {
	if !s.named {
		return []string{""}
	}
	for _, c := range []*Config{old, next} {
		for _, name := range c.names(s.path) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (c *Config) names(section string) (names []string) {
	switch section {
	case "backend":
		for _, b := range c.Backends {
			names = append(names, b.Name)
		}
	case "domain":
		for _, d := range c.Domains {
			names = append(names, d.Name)
		}
	case "dnsbl":
		for _, d := range c.DNSBLs {
			names = append(names, d.Name)
		}
	case "feed":
		for _, f := range c.Feeds {
			names = append(names, f.Name)
		}
	case "syslog":
		for _, s := range c.Syslog {
			names = append(names, s.Name)
		}
	}
	return names
}

// same compares one key. place makes entries that are not there, so it gets
// copies; an entry that only one of them has differs by its name in the other.
func (k key) same(old, next *Config, name string) bool {
	a, b := old.clone(), next.clone()
	return reflect.DeepEqual(k.place(&a, name), k.place(&b, name))
}

func (c *Config) clone() Config {
	d := *c
	d.DNSBLs, d.Feeds = slices.Clone(c.DNSBLs), slices.Clone(c.Feeds)
	d.Backends, d.Domains, d.Syslog = slices.Clone(c.Backends), slices.Clone(c.Domains), slices.Clone(c.Syslog)
	return d
}

package scout_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// suite is a part of the test suite of RFC 7208: a world, and what SPF says in it.
type suite struct {
	Description string
	Timeout     []string    // names that fail where they have no record
	Zone        [][3]string // name, type, data
	Tests       []struct {
		Name, Helo, Host, MailFrom string
		Spec, Result               []string // any of the results will do
	}
}

// apart are tests of the suite that we answer otherwise. A slash in a domain
// name, which nobody's has, is permerror here, and no name that does not exist;
// the macro p, which nobody is to use (section 7.2), is unknown.
var apart = map[string]string{
	"a-colon-domain": "permerror", "a-colon-domain-ip4mapped": "permerror",
	"mx-colon-domain": "permerror", "mx-colon-domain-ip4mapped": "permerror",
	"p-macro-multiple": "neutral",
}

// TestSPFSuite runs the suite that was made for RFC 7208 by its authors and
// others, over DNS.
func TestSPFSuite(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc7208-tests.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []suite
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, s := range all {
		t.Run(s.Description, func(t *testing.T) { count += s.run(t) })
	}
	if count < 200 {
		t.Errorf("%d tests are too few", count)
	}
}

func (s *suite) run(t *testing.T) int {
	w := newWorld(t)
	w.mute = map[string]bool{}
	for _, name := range s.Timeout {
		w.mute[strings.ToLower(name)+"."] = true
	}
	for _, r := range s.Zone {
		w.add(t, r[0]+". 60 "+r[1]+" "+r[2])
	}
	for _, c := range s.Tests {
		_, got, _ := w.scout().Sender(t.Context(), netip.MustParseAddr(c.Host), c.Helo, c.MailFrom)
		if result := apart[c.Name]; result != "" {
			c.Result = []string{result}
		}
		if !slices.Contains(c.Result, got.Result) {
			t.Errorf("%s (section %v): %q, want %q", c.Name, c.Spec, got.Result, c.Result)
		}
	}
	return len(s.Tests)
}

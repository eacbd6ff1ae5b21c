package harvest

import (
	"fmt"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// relaying names n recipients of foreign domains, a second apart, and says
// after how many the source was convicted, 0 for never.
func (s *scene) relaying(n int, null bool, domain string) (at int) {
	for i := range n {
		s.now = s.now.Add(time.Second)
		r := smtp.Recipient{To: fmt.Sprintf("jane@"+domain, i), Reason: reply.Relaying}
		if c, ok := recipient(s.w, s.now, s.src, r, null); ok && at == 0 {
			if at = i + 1; c.Reason != reply.RelayProbe {
				s.t.Errorf("convicted for %s", c.Reason)
			}
		}
	}
	return at
}

func TestRelayProbeIsConvictedByTheFifthDomain(t *testing.T) {
	for tier, want := range map[smtp.Tier]int{smtp.New: 5, smtp.Known: 20, smtp.Protected: 0} {
		if at := newScene(t, tier).relaying(30, false, "d%d.example"); at != want {
			t.Errorf("%s: convicted at domain %d, want %d", tier, at, want)
		}
	}
}

// Somebody who names us as the MX of names below his domain, and has an honest
// host write to them all, gets nobody banned; nor does one whose forged mail is
// bounced.
func TestNobodyIsLedIntoARelayProbe(t *testing.T) {
	for _, domain := range []string{"d%d.evil.example", "a.d%d.evil.co.uk", "d%d.github.io"} {
		if at := newScene(t, smtp.New).relaying(200, false, domain); at != 0 {
			t.Errorf("%s: convicted at name %d", domain, at)
		}
	}
	if at := newScene(t, smtp.New).relaying(200, true, "d%d.example"); at != 0 {
		t.Errorf("bounces: convicted at domain %d", at)
	}
}

// What is known of our own domains is not pushed out by foreign ones.
func TestForeignDomainsTakeNoRoom(t *testing.T) {
	s := newScene(t, smtp.New)
	s.relaying(300, true, "d%d.example")
	if n := s.w.e.domains.len(); n != 1 { // that of all together
		t.Errorf("%d foreign domains are remembered", n)
	}
}

func TestOrganisation(t *testing.T) {
	for name, want := range map[string]string{
		"example.com": "example.com", "a.b.example.com": "example.com", "a.example.co.uk": "example.co.uk",
		"a.b.github.io": "github.io", "com": "com", "[192.0.2.1]": "[", "a.b.unlisted": "b.unlisted", "": "",
	} {
		if got := organisation(name); got != want {
			t.Errorf("organisation(%q) = %q, want %q", name, got, want)
		}
	}
}

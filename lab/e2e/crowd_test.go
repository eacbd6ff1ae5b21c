package e2e

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"mailweir/firewall/guard"
	"mailweir/lab"
	"mailweir/record"
)

// crowdNet and crowdNet6 are where the many come from.
const (
	crowdNet  = "198.18.0.0/15"
	crowdNet6 = "2001:db8:8000::/33"
)

// crowdAddr is the i-th of them, of both families in turn, each in a network
// of its own; i is below 1024.
func crowdAddr(i int) netip.Addr {
	if i%2 == 0 {
		return netip.AddrFrom4([4]byte{198, byte(18 + i>>9), byte(i >> 1), 25})
	}
	b := netip.MustParsePrefix(crowdNet6).Addr().As16()
	b[4], b[5], b[15] = b[4]|byte(i>>8), byte(i), 25
	return netip.AddrFrom16(b)
}

// edgeOf is where an address connects to.
func edgeOf(a netip.Addr) netip.AddrPort {
	if a.Is4() {
		return edge4
	}
	return edge6
}

// many has n do something, a hundred at a time: who guesses is answered slowly.
func many(n int, do func(i int)) {
	var g errgroup.Group
	g.SetLimit(100)
	for i := range n {
		g.Go(func() error { do(i); return nil })
	}
	g.Wait()
}

// connectWait is for a connect that may be dropped.
const connectWait = 4 * time.Second

// members is how many addresses a crowd has.
const members = 300

// crowd has members addresses, from the first-th on, each name what each says,
// at once, and returns the codes that they heard.
type crowd func(first int, sender string, each func(i int) []string) [][]int

// newCrowd starts a site with a crowd before it.
func newCrowd(t *testing.T, users []string) (*site, *lab.Host, crowd) {
	t.Parallel()
	s := newSite(t)
	host := s.Host("crowd", crowdNet, crowdNet6)
	s.postfix.SetUsers(users)
	s.start("192.0.2.10:25")
	s.staleLetter(t, []string{anna}, "")
	return s, host, func(first int, sender string, each func(i int) []string) [][]int {
		heard := make([][]int, members)
		many(members, func(i int) {
			ctx, cancel := context.WithTimeout(t.Context(), connectWait)
			defer cancel()
			heard[i] = names(ctx, host, crowdAddr(first+i), sender, each(i)...)
		})
		return heard
	}
}

func hundred() []string {
	users := []string{anna, bob}
	for i := range 98 {
		users = append(users, at("user", i))
	}
	return users
}

// Hundreds of addresses with real connections: many that have one stale name in
// their list, and many that ask by callout. Nobody is banned, and each hears the
// truth.
func TestHonestCrowds(t *testing.T) {
	users := hundred()
	s, _, crowd := newCrowd(t, users)
	lists := crowd(0, "news@lists.example", func(i int) (list []string) { // one in ten is gone
		for k := range 9 {
			list = append(list, users[(i*7+k)%len(users)])
		}
		return append(list, at("former", i%100))
	})
	for i, codes := range lists {
		if want := []int{250, 250, 250, 250, 250, 250, 250, 250, 250, 550}; !slices.Equal(codes, want) {
			t.Fatalf("%v heard %v, want %v", crowdAddr(i), codes, want)
		}
	}
	for i, codes := range crowd(members, "", func(i int) []string { return []string{at("forged", i)} }) {
		if codes[0] != 550 {
			t.Fatalf("the callout of %v heard %d, want 550", crowdAddr(members+i), codes[0])
		}
	}
	s.nobodyBanned(t)
	s.replayAgrees(t, 0)
}

// A botnet of hundreds of addresses works through one list of guesses. It is
// told next to nothing and banned, whole; its packets are counted ban by ban,
// the good sender gets through, and the replay of the records comes to the same
// bans, at the same times, though many guesses came in the same millisecond.
func TestBotnet(t *testing.T) {
	s, host, crowd := newCrowd(t, []string{anna, bob})
	told := 0
	var bans []guard.BanInfo
	for round := 0; len(bans) < members && round < 5; round++ {
		for _, codes := range crowd(0, "u@bots.example", func(i int) (list []string) {
			for k := range 4 {
				list = append(list, at("name", (i*3+k)%40))
			}
			return list
		}) {
			for _, code := range codes {
				if code == 550 {
					told++
				}
			}
		}
		var err error
		if bans, err = lab.Objects[guard.BanInfo](t.Context(), s.weir, "bans"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bans, %d guesses were told the truth", len(bans), told)
	told -= len(bans) // the guess that convicts is answered as it is
	if most := 4 * members / 20; told > most || len(bans) != members {
		t.Errorf("%d guesses were told the truth, want %d at most; %d bans, want %d", told, most, len(bans), members)
	}
	many(members, func(i int) {
		s.mustTimeOut(t, host, crowdAddr(i), edgeOf(crowdAddr(i)), "a bot after its conviction")
	})
	bans, err := lab.Objects[guard.BanInfo](t.Context(), s.weir, "bans")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bans {
		if b.Packets == 0 {
			t.Errorf("no packet of %v was dropped", b.Prefix)
		}
	}
	s.staleLetter(t, []string{anna}, "")
	s.replayAgrees(t, members)
}

func (s *site) nobodyBanned(t *testing.T) {
	t.Helper()
	if list, err := lab.Objects[guard.BanInfo](t.Context(), s.weir, "bans"); err != nil || len(list) > 0 {
		t.Fatalf("banned %v, %v; want nobody", list, err)
	}
}

// The directory of a real server denies everybody from one moment on: nobody
// is banned, senders hear 451, the alarm stands within a minute; and all is well
// when it is.
func TestDirectoryOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	crowd := s.Host("crowd", crowdNet, crowdNet6)
	s.start("192.0.2.10:25")
	s.staleLetter(t, []string{anna, bob}, "")
	s.postfix.SetUsers(nil)
	n := 0
	ask := func() int { // each time another host, and another recipient
		n++
		a := crowdAddr(n)
		return names(t.Context(), crowd, a, "x@firm.example", at("colleague", n))[0]
	}
	s.Eventually(time.Minute, "a recipient hears 451, and an alarm stands", func() bool {
		code := ask()
		status, _ := s.weir.Cmd(t.Context(), "status")
		return code == 451 && strings.Contains(status, "directory of example.com is broken")
	})
	for i := range 60 { // a fast sender, whose list is good
		if code := names(t.Context(), crowd, crowdAddr(0), "x@firm.example", at("colleague", i))[0]; code != 451 {
			t.Fatalf("recipient %d hears %d, want 451", i, code)
		}
	}
	s.nobodyBanned(t)
	s.postfix.SetUsers([]string{anna, bob, at("colleague", 1)})
	s.Eventually(2*time.Minute, "a colleague is taken again", func() bool {
		return names(t.Context(), crowd, crowdAddr(0), "x@firm.example", at("colleague", 1))[0] == 250
	})
	if code := ask(); code != 550 {
		t.Errorf("an unknown recipient hears %d when the directory is well again, want 550", code)
	}
	s.nobodyBanned(t)
	s.replayAgrees(t, 0)
	records, err := s.weir.Cmd(t.Context(), "records", "--limit", "0", "--json")
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"unknown", "valid"} { // by canaries, when it was broken and when it was well
		if !strings.Contains(records, `"directory":{"said":"`+said+`"`) {
			t.Errorf("no record has that a canary said %q", said)
		}
	}
}

// Mailboxes are removed: whoever is known to be good hears so, each at the
// second try at the latest, and can clean his list.
func TestRemovedMailboxes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	users := hundred()
	s.postfix.SetUsers(users)
	s.start("192.0.2.10:25")
	for i := 0; i < len(users); i += 20 {
		s.staleLetter(t, users[i:i+20], "")
	}
	s.postfix.SetUsers(users[30:])
	c, _, err := s.sender.SMTP(t.Context(), s.sender.Addr(), edge4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, to := range users[:30] {
		var heard []int
		for range 2 {
			r, err := c.Deliver("news@sender.example", []string{to}, "Subject: news\r\n\r\nnews for "+to+"\r\n")
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, r.Code)
		}
		if heard[1] != 550 || heard[0] != 451 && heard[0] != 550 {
			t.Errorf("%s was removed, and two tries hear %v", to, heard)
		}
	}
	s.nobodyBanned(t)
	if status, err := s.weir.Cmd(t.Context(), "status"); strings.Contains(status, "broken") || status == "" {
		t.Errorf("status: %s %v", status, err)
	}
}

// convicted is a ban with its evidence, as weir bans --json has it.
type convicted struct {
	guard.BanInfo
	Evidence *record.Conviction `json:"evidence"`
}

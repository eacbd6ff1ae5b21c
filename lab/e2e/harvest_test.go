package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
	"mailweir/record"
)

// names has an address name recipients in one session, and returns the codes it
// heard; 0 for none. The context is for the connect alone.
func names(ctx context.Context, h *lab.Host, from netip.Addr, sender string, rcpts ...string) (codes []int) {
	codes = make([]int, len(rcpts))
	c, greeting, err := h.SMTP(ctx, from, edgeOf(from))
	if err != nil || greeting.Code != 220 {
		return codes
	}
	defer c.Close()
	for _, line := range []string{"EHLO " + c.Helo, "MAIL FROM:<" + sender + ">"} {
		if r, err := c.Cmd("%s", line); err != nil || r.Code != 250 {
			return codes
		}
	}
	for i, to := range rcpts {
		r, err := c.Cmd("RCPT TO:<%s>", to)
		if err != nil {
			return codes
		}
		codes[i] = r.Code
	}
	c.Cmd("QUIT")
	return codes
}

func at(user string, n int) string { return fmt.Sprintf("%s%d@example.com", user, n) }

// Scenes of an edge's day, with real connections: a stale list, callouts, a
// fast guesser. Who guesses is banned, nobody else is touched, and the replay of
// the records comes to the very bans, at the very times.
func TestHarvestScenes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	crowd := s.Host("crowd", crowdNet, crowdNet6)
	users := []string{anna, bob}
	for i := range 98 {
		users = append(users, at("user", i))
	}
	s.postfix.SetUsers(users)
	s.start("192.0.2.10:25")

	t.Run("stale list", func(t *testing.T) { s.staleList(t, users) })
	t.Run("callouts", func(t *testing.T) {
		for i := range 45 {
			if got := names(t.Context(), crowd, crowdAddr(1), "", at("forged", i)); got[0] != 550 {
				t.Fatalf("callout %d heard %d", i, got[0])
			}
		}
	})
	t.Run("fast guesser", func(t *testing.T) {
		if n := s.harvest(t, s.attacker, attacker4, edge4); n > 25 {
			t.Errorf("%d guesses were answered, want 25 at most", n)
		}
		s.mustTimeOut(t, s.attacker, attacker4, edge4, "after the conviction")
	})
	s.staleLetter(t, []string{anna}, "") // the good sender still gets through
	s.replayAgrees(t, 1)
}

// staleList: a letter goes to each ten of a list, of which one more is gone.
func (s *site) staleList(t *testing.T, users []string) {
	n := 0
	for to := range slices.Chunk(users, 10) {
		s.staleLetter(t, to, at("former", n))
		n++
	}
}

// staleLetter sends a letter to recipients that are there and, unless it is "",
// one that is gone.
func (s *site) staleLetter(t *testing.T, there []string, gone string) {
	t.Helper()
	c, _, err := s.sender.SMTP(t.Context(), s.sender.Addr(), edge4)
	if err != nil {
		t.Fatalf("the good sender is cut off: %v", err)
	}
	defer c.Close()
	tell := func(want int, line string) {
		t.Helper()
		if r, err := c.Cmd("%s", line); err != nil || r.Code != want {
			t.Fatalf("%s is answered %v %v, want %d", line, r, err, want)
		}
	}
	tell(250, "EHLO "+c.Helo)
	tell(250, "MAIL FROM:<news@sender.example>")
	for _, to := range there {
		tell(250, "RCPT TO:<"+to+">")
	}
	if gone != "" {
		tell(550, "RCPT TO:<"+gone+">")
	}
	tell(354, "DATA")
	if r, err := c.Send("Subject: news\r\n\r\nnews\r\n"); err != nil || r.Code != 250 {
		t.Fatalf("the letter is answered %v %v", r, err)
	}
}

// verdictLine is what the replay says of a ban.
type verdictLine struct {
	Ban    netip.Prefix `json:"ban"`
	Time   record.Time  `json:"time"`
	Reason string       `json:"reason"`
}

// replayAgrees plays the records that were made and holds the bans against
// those in the ledger.
func (s *site) replayAgrees(t *testing.T, atLeast int) {
	t.Helper()
	want := s.banned(t, atLeast)
	slices.Sort(want)
	got := s.replayed(t)
	if !slices.Equal(got, want) {
		t.Errorf("the replay bans %q, the kernel %q", got, want)
	}
}

// banned are the bans that stand in the kernel, with the times of the evidence.
func (s *site) banned(t *testing.T, atLeast int) []string {
	t.Helper()
	var want []string
	s.Eventually(10*time.Second, "every ban has its evidence", func() bool { // records are written behind
		live, err := lab.Objects[convicted](t.Context(), s.weir, "bans")
		if want = nil; err != nil {
			t.Fatal(err)
		}
		for _, b := range live {
			if b.Evidence == nil {
				return false
			}
			want = append(want, fmt.Sprintf("%v for %v at %v", b.Prefix, b.Reason, b.Evidence.Time.UTC()))
		}
		return true
	})
	if len(want) < atLeast {
		t.Errorf("%d bans, want at least %d: %q", len(want), atLeast, want)
	}
	return want
}

// replayed are the bans that the replay of all records would make.
func (s *site) replayed(t *testing.T) (bans []string) {
	t.Helper()
	records, err := s.weir.Cmd(t.Context(), "records", "--limit", "0", "--json")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.weir.CmdInput(t.Context(), records, "replay", "-c", "/etc/mailweir/weir.toml", "-")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var v verdictLine
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Ban.IsValid() {
			bans = append(bans, fmt.Sprintf("%v for %s at %v", v.Ban, v.Reason, v.Time.Time))
		}
	}
	slices.Sort(bans)
	return bans
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailweir/lab"
)

// row is an attacker on the screen of weir top: how many unknown and valid
// recipients, which share is unknown, how many a minute, how near he is, by which
// rule, his latest guess.
var row = regexp.MustCompile(`(?m)^([0-9a-f.:/]+) +(\d+) +(\d+) +(\d+)% +([\d.]+) +(\d+)%  (\S+) +(\S.*)$`)

// On a terminal of 80 columns and 24 lines, while the appliance is under attack
// from dozens of addresses, weir top shows each attacker's rate, share and
// distance to a conviction in a line that fits, and nothing scrolls; weir why of
// one who was convicted has window, rule and guesses on the screen.
func TestAttackOnAScreen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	crowd := s.Host("crowd", crowdNet, crowdNet6)
	s.start("192.0.2.10:25")
	s.staleLetter(t, []string{anna}, "")

	top, err := s.weir.Terminal(24, 80, "top", "--every", "300ms")
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	ctx, stop := context.WithCancel(t.Context())
	var attack sync.WaitGroup
	defer attack.Wait()
	defer stop()
	for i := range 40 {
		attack.Go(func() { guessOn(ctx, crowd, i) })
	}
	var seen lab.Screen
	s.Eventually(time.Minute, "attackers are on the screen, some of them near a ban, some of them banned", func() bool {
		f, ok := top.Frame()
		if !ok || strings.Contains(f.String(), " 0 bans") {
			return false
		}
		near, shown := false, 0
		for _, m := range row.FindAllStringSubmatch(f.String(), -1) {
			shown++
			n, err := strconv.Atoi(m[6])
			near = near || err == nil && n >= 80
		}
		seen = f
		return near && shown >= 10
	})
	stop()
	attack.Wait()
	show(t, "weir top", seen)
	for _, f := range top.Frames() {
		if f.Wrapped > 0 || f.Scrolled > 0 {
			t.Fatalf("%d lines are too long and %d went out at the top:\n%v", f.Wrapped, f.Scrolled, f)
		}
	}
	if !strings.Contains(seen.String(), "SHARE") || !strings.Contains(seen.String(), "/MIN") || !strings.Contains(seen.String(), "NEAR") {
		t.Errorf("the columns have no names:\n%v", seen)
	}
	s.whyOnAScreen(t)
}

func show(t *testing.T, what string, s lab.Screen) {
	if os.Getenv("SHOW") != "" {
		t.Logf("%s, %d lines went out at the top:\n%v\n%s", what, s.Scrolled, s, strings.Repeat("=", 80))
	}
}

// guessOn has the i-th of a crowd name recipients that do not exist, and some who
// do, until ctx is over or nobody answers.
func guessOn(ctx context.Context, crowd *lab.Host, i int) {
	for n := 0; ctx.Err() == nil; n++ {
		wait, cancel := context.WithTimeout(ctx, connectWait)
		rcpts := []string{fmt.Sprintf("charlotte.guess%d-%d@example.com", i, n)}
		if i%3 == 0 && n%2 == 0 {
			rcpts = append(rcpts, anna)
		}
		codes := names(wait, crowd, crowdAddr(i), "x@bot.example", rcpts...)
		cancel()
		if codes[0] == 0 {
			return
		}
	}
}

// whyOnAScreen looks at weir why of somebody who was banned.
func (s *site) whyOnAScreen(t *testing.T) {
	t.Helper()
	bans, err := lab.Objects[ban](t.Context(), s.weir, "bans")
	if err != nil || len(bans) == 0 {
		t.Fatal(bans, err)
	}
	for _, b := range bans[:min(3, len(bans))] {
		addr := b.Prefix.Addr().String()
		s.Eventually(time.Minute, "what was banned a moment ago is on record", func() bool {
			out, err := s.weir.Cmd(t.Context(), "why", addr)
			return err == nil && !strings.Contains(out, "no transaction of ")
		})
		why, err := s.weir.Terminal(24, 80, "why", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer why.Close()
		f := why.Wait()
		show(t, "weir why", f)
		if f.Wrapped > 0 || f.Scrolled > 0 {
			t.Errorf("%d lines are too long and %d went out at the top:\n%v", f.Wrapped, f.Scrolled, f)
		}
		for _, want := range []string{"banned for harvest", "by the rule ", "unknown and ", "within ", "guessed  charlotte.guess"} {
			if !strings.Contains(f.String(), want) {
				t.Errorf("no %q on the screen:\n%v", want, f)
			}
		}
	}
}

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/greylist"
)

// The schedules of real mail servers, each attempt from another host of a pool
// of twenty, get through with at most one interval more than the delay, under
// their own clock (R-BW-07, R-BW-22, R-RN-16).
func TestPoolsComeThroughOnTheirSchedules(t *testing.T) {
	for _, schedule := range [][]int{{1, 3, 5, 15, 45}, {1, 4, 9, 24, 69}, {5, 15, 45}, {30, 60}} {
		t.Run(fmt.Sprint(schedule), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world) {
				w.policy("greylist", "all")
				w.policy("spf", "pass")
			})
			if got := w.attempt(t, 1); got != 451 {
				t.Fatalf("the first contact hears %d, want 451", got)
			}
			passed := 0
			for i, minute := range schedule {
				w.later.Store(int64(time.Duration(minute) * time.Minute))
				want := 451
				if minute >= 10 {
					want = 250
				}
				if got := w.attempt(t, 2+i); got != want {
					t.Errorf("after %d minutes: %d, want %d", minute, got, want)
				}
				if want == 250 {
					passed++
				}
			}
			for host := range 20 { // whoever of them comes next, and writes at once
				if got := w.attempt(t, 100+host); got != 250 {
					t.Errorf("host %d of the pool hears %d", host, got)
				}
			}
			if passed == 0 {
				t.Error("nothing passed")
			}
		})
	}
}

// attempt has a host of the pool, each in a network of its own, offer the mail.
func (w *world) attempt(t *testing.T, host int) int {
	t.Helper()
	c := w.dial(fmt.Sprintf("127.%d.0.1", host))
	defer c.nc.Close()
	last := ""
	for _, line := range []string{"", "HELO client.example", "MAIL FROM:<a@client.example>", "RCPT TO:<alice@office.example>"} {
		if line != "" {
			c.send(line + "\r\n")
		}
		var err error
		for last, err = c.line(); err == nil && len(last) > 3 && last[3] == '-'; last, err = c.line() {
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	code := 0
	fmt.Sscan(last, &code)
	return code
}

// away is a greylist whose store is away.
type away struct{}

var errAway = errors.New("the store is away")

func (away) Meet(context.Context, time.Time, greylist.Terms, greylist.Contact) (greylist.Answer, error) {
	return greylist.Answer{}, errAway
}

func (away) Look(context.Context, time.Time, greylist.Terms, greylist.Contact) (greylist.Answer, error) {
	return greylist.Answer{}, errAway
}

// A store that is away puts nobody off, and the record says so.
func TestNoGreylistWithoutItsStore(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.policy("greylist", "all")
		w.policy("spf", "none")
		w.opts.Greylist = away{}
	})
	if got := w.attempt(t, 1); got != 250 {
		t.Errorf("the client hears %d", got)
	}
	r := w.recorder.wait(t, 0)
	if g := r.Facts.Rcpts[0].Grey; g == nil || g.State != greylist.Away {
		t.Errorf("the record has %+v", g)
	}
}

// weir test says what the greylist would, and leaves no trace in it.
func TestTheGreylistIsTestedWithoutATrace(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.policy("greylist", "all")
		w.policy("spf", "none")
	})
	from := "a@client.example"
	for range 2 {
		d := w.server.Test(t.Context(), smtp.Probe{From: netip.MustParseAddr("203.0.113.9"), HELO: "client.example", Mail: &from, Rcpt: "alice@office.example"})
		if d.Reason != "greylist" || !strings.Contains(d.Reply.Text, "try again in 10 min") {
			t.Errorf("%s: %s", d.Reason, d.Reply.Text)
		}
		w.later.Add(int64(time.Hour))
	}
}

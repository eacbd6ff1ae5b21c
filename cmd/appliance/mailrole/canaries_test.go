package mailrole

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
)

// What a canary says stands for an hour, what it does not say for a minute: who
// keeps a backend busy, or one of its mailboxes full, must not guess for free.
func TestCanaryThatIsNotAnswered(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)
	c := newCanaries(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	c.watch = harvest.New(harvest.Default, harvest.Options{})
	said := relay.Canary{}
	asked := 0
	c.probe = func(context.Context, string) (relay.Canary, bool) { asked++; return said, true }
	for _, step := range []struct {
		what  string
		after time.Duration
		known relay.Meaning
		sick  bool
		asked bool
	}{
		{"away at first", 0, relay.Away, true, true},
		{"and within the minute", 59 * time.Second, relay.Taken, true, false},
		{"back after a minute", time.Second, relay.Taken, false, true},
		{"away within the hour", 59 * time.Minute, relay.Away, false, false},
		{"away after it", time.Minute, relay.Away, true, true},
		{"full", time.Minute, relay.RecipientForNow, false, true},
		{"refused after an hour", time.Hour, relay.UnknownUser, true, true},
		{"for an hour", 59 * time.Minute, relay.Taken, true, false},
		{"mended", time.Minute, relay.Taken, false, true},
		{"throttled", time.Hour, relay.Throttled, true, true},
		{"nobody known", time.Minute, "", false, true},
	} {
		now = now.Add(step.after)
		said.Known, asked = step.known, 0
		if _, sick := c.Sick(t.Context(), "example.com"); (sick != smtp.Valid) != step.sick || (asked > 0) != step.asked {
			t.Errorf("%s: sick %v, asked %d times, want %v, %v", step.what, sick, asked, step.sick, step.asked)
		}
	}
}

// A doubt that finds the backend away does not take the place of an answer.
func TestUnansweredDoubtChangesNothing(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)
	c := newCanaries(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	c.watch = harvest.New(harvest.Default, harvest.Options{})
	said, asked := relay.Canary{Known: relay.Taken, Random: relay.UnknownUser}, 0
	c.probe = func(context.Context, string) (relay.Canary, bool) { asked++; return said, true }
	c.ask(t.Context(), "example.com", canaryEvery)
	now, said = now.Add(10*time.Minute), relay.Canary{Known: relay.Away}
	c.ask(t.Context(), "example.com", canaryEvery)
	c.ask(t.Context(), "example.com", canaryEvery) // not twice a minute
	if why, sick := c.Sick(t.Context(), "example.com"); sick != smtp.Valid || asked != 2 {
		t.Errorf("sick %v (%s) after %d canaries", sick, why, asked)
	}
}

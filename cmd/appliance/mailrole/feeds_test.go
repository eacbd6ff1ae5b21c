package mailrole

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/smtp/access"
)

// quietly takes alarms and tells nobody.
type quietly struct{}

func (quietly) Alarm(string, string) {}
func (quietly) Clear(string, string) {}

// A new list is in force when it was read, whoever looks at the feeds then.
func TestAFeedIsInForceWhileSomebodyLooks(t *testing.T) {
	dir := t.TempDir()
	lists, err := access.Open(filepath.Join(dir, "lists"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "source")
	write := func(text string) {
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("192.0.2.1\n")
	f := newFeeds(dir, lists, settings.NewResolver(config.DNS{}), quietly{}, time.Now, slog.Default())
	var background sync.WaitGroup
	cfg := config.Config{Feeds: []config.Feed{{Name: "ours", Source: source, Action: "reject", Refresh: time.Hour, MaxEntries: 10}}}
	f.use(t.Context(), &background, cfg)
	one, _ := f.find("ours")
	write("192.0.2.1\n192.0.2.22\n")
	f.mu.Lock() // as weir status does
	err = one.Fetch(t.Context(), false)
	f.mu.Unlock()
	if _, ok := lists.Find(access.Query{Peer: netip.MustParseAddr("192.0.2.22")}); err != nil || !ok {
		t.Errorf("the new list is not in force (%v)", err)
	}
	f.use(t.Context(), &background, config.Config{})
	if err := one.Fetch(t.Context(), true); err != nil { // by an operator, who asked before the reload
		t.Error(err)
	}
	if _, ok := lists.Find(access.Query{Peer: netip.MustParseAddr("192.0.2.1")}); ok {
		t.Error("a feed that was taken out is in force")
	}
	background.Wait()
}

// What a clock that was ahead once wrote down puts no look-up off.
func TestAProviderThatWasLookedUpInTheFuture(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := &providers{now: func() time.Time { return now }, kept: map[string]keptProvider{}, why: map[string]error{}}
	for late, due := range map[time.Duration]bool{-time.Hour: false, -11 * time.Hour: true, 365 * 24 * time.Hour: true, time.Minute: false} {
		p.kept["google"] = keptProvider{Looked: now.Add(late)}
		if p.due("google") != due {
			t.Errorf("looked up %v from now: due %v", late, !due)
		}
	}
}

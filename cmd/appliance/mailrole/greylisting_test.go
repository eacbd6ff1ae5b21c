package mailrole

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailweir/config"
	"mailweir/smtp/greylist"
)

// A greylist without room puts nobody off, says so by an alarm that tells what
// to do, and takes it back when there was room for a while.
func TestFullGreylistIsAnAlarm(t *testing.T) {
	now, alarms := time.Unix(1_800_000_000, 0), alarmsSaid{}
	g, err := newGreylisting(config.Default(), t.TempDir(), func() time.Time { return now }, alarms)
	if err != nil {
		t.Fatal(err)
	}
	g.store = greylist.NewLocal(4)
	g.List = greylist.New(g.store, [16]byte{1})
	meet := func(i int) greylist.State {
		t.Helper()
		c := greylist.Contact{Pool: fmt.Sprintf("addr:198.51.%d.0/24", i), Sender: "a@sender.example", Recipient: "anna@example.com"}
		a, err := g.Meet(t.Context(), now, greylist.Default, c)
		if err != nil {
			t.Fatal(err)
		}
		return a.State
	}
	for i := range 4 {
		if s := meet(i); s != greylist.First || len(alarms) != 0 {
			t.Fatalf("stranger %d: %s, alarms %v", i, s, alarms)
		}
	}
	if s, text := meet(5), alarms[alarmGreylistFull]; s != greylist.Away || !strings.Contains(text, "weir top") {
		t.Fatalf("without room: %s, alarm %q", s, text)
	}
	now = now.Add(fullFor)
	if g.room(now); alarms[alarmGreylistFull] == "" {
		t.Error("the alarm ended as soon as there might be room")
	}
	meet(6)
	now = now.Add(fullFor)
	if g.room(now); alarms[alarmGreylistFull] == "" {
		t.Error("the alarm ended though somebody had no room meanwhile")
	}
	now = now.Add(time.Second)
	if g.room(now); alarms[alarmGreylistFull] != "" {
		t.Error("the alarm stands though there is room again")
	}
	if s := meet(0); s != greylist.Passed {
		t.Errorf("who waited before it was full: %s", s)
	}
}

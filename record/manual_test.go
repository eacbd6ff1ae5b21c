package record

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mailweir/record/syslog"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// documented are the values of each event by the table of the manual.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/records.md")
	if err != nil {
		t.Fatal(err)
	}
	id, value := regexp.MustCompile("`([A-Z_]+)`"), regexp.MustCompile("`([a-z_]+)`")
	events := map[string][]string{}
	for row := range strings.Lines(string(text)) {
		cells := strings.Split(row, "|")
		if len(cells) != 6 { // the others have fewer columns
			continue
		}
		for _, i := range id.FindAllStringSubmatch(cells[1], -1) {
			for _, v := range value.FindAllStringSubmatch(cells[4], -1) {
				events[i[1]] = append(events[i[1]], v[1])
			}
		}
	}
	return events
}

// everyEvent is one of each that a Log says, with all values that it can have.
func everyEvent() []*syslog.Message {
	x := fullTransaction()
	line := NewLine(&x, "mx1")
	line.Alias, line.Reply.Enhanced = "DENIED_OTHER", reply.Enhanced{5, 7, 1}
	r := &line.Rcpts[1]
	r.Oracle, r.Age = smtp.Unknown, smtp.Live
	c := newConviction(x.Facts.Ref, x.Facts.Peer, start, smtp.Conviction{
		Reason: reply.Harvest, Left: smtp.LeftProtected, Evidence: smtp.Evidence{Rule: "unknown_per_hour", Window: 1, Unknown: 25, Valid: 1},
	}, false)
	b := Ban{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Until: start, Reason: "harvest", Ref: x.Facts.Ref, Step: 1, By: "operator", Why: "x"}
	d := Drop{Source: x.Facts.Peer, Reason: "banned", Country: "NL", Engine: "xdp", Port: 25, Samples: 1, First: start, Last: start}
	a := Alarm{Name: "disk", Since: start}
	return []*syslog.Message{
		transactionEvent(&line), rcptEvent(&line, r), convictionEvent(&c), banEvent("BAN", &b, start), banEvent("UNBAN", &b, start), dropEvent(&d),
		changeEvent("operator", "configuration", "observe", start), alarmEvent(a.Name, "full", start), clearEvent(&a, "room again", start),
	}
}

// Who feeds a SIEM gets from the manual what events there are, and what they
// hold (R-MC-07).
func TestManualHasTheEvents(t *testing.T) {
	table := documented(t)
	for _, e := range everyEvent() {
		want := table[e.ID]
		if e.ID == "ALARM" {
			want = slices.DeleteFunc(slices.Clone(want), func(v string) bool { return v == "since" })
		}
		var got []string
		for _, p := range e.Params {
			got = append(got, p.Name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has\n%q, the manual\n%q", e.ID, got, want)
		}
	}
	for _, id := range []string{"LOST", "LEFT_OUT"} { // those of the exporter, and of the machine
		if len(table[id]) == 0 {
			t.Errorf("%s is not in the manual", id)
		}
	}
}

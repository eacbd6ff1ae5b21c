package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
)

// liveRsyslog is a collector that writes what it gets as it came.
const liveRsyslog = `global(workDirectory="/tmp")
module(load="imtcp" )
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" address="192.0.2.10" port="601" ruleset="in")
ruleset(name="in") { action(type="omfile" file="/tmp/collected" template="raw") }
`

func (b *keyBench) collector() *lab.Process {
	b.t.Helper()
	if err := os.WriteFile(b.office.Path("/tmp/rsyslog.conf"), []byte(liveRsyslog), 0o644); err != nil {
		b.t.Fatal(err)
	}
	p, err := b.office.Start("rsyslogd", b.office.Command("/usr/sbin/rsyslogd", "-n", "-f", "/tmp/rsyslog.conf", "-i", "/tmp/rsyslog.pid"))
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// collected are the lines that the collector has, as soon as all of want are in
// them.
func (b *keyBench) collected(want ...string) (lines []string) {
	b.t.Helper()
	missing := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(b.office.Path("/tmp/collected"))
		if missing = missingIn(string(text), want); missing == "" {
			return strings.Split(strings.TrimSpace(string(text)), "\n")
		}
	}
	b.t.Fatalf("the collector never hears %s", missing)
	return nil
}

func missingIn(text string, want []string) string {
	for _, w := range want {
		if !regexp.MustCompile(w).MatchString(text) {
			return w
		}
	}
	return ""
}

// R-MC-07: what happens on the edge is at the collector: transactions, each
// refused recipient, bans and what lifts them, changes, alarms, all in order and
// without a gap; while the collector is away they wait, and outlive kill -9 of
// the whole edge.
func TestSyslogTellsEverything(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/usr/sbin/rsyslogd"); err != nil {
		t.Skip("rsyslogd is not installed (scripts/deps test does)")
	}
	b := newKeyBench(t)
	rsyslogd := b.collector()
	b.apply(map[string]string{"syslog.siem.target": `"tcp://192.0.2.10:601"`})
	c := b.mustCall()
	say(c, "EHLO out.example", "MAIL FROM:<a@out.example>", "RCPT TO:<guess1@example.com>", "RCPT TO:<"+b.rcpt()+">", "RSET", "QUIT")
	b.cmd("ban", "203.0.113.99", "--why", "he \"asked\" for it")
	b.cmd("unban", "203.0.113.99")
	b.cmd("allow", "203.0.113.98", "--why", "a friend")
	b.collected(
		`CHANGE .*by="operator" what="configuration" detail=".*syslog\.siem`,
		`RCPT .*reason="unknown_user".*to="guess1@example\.com"`,
		`TRANSACTION .*outcome="aborted".*rcpts="2" refused="1"`,
		`BAN .*prefix="203\.0\.113\.99/32" reason="operator".*by="operator" why="he \\"asked\\" for it"`,
		`UNBAN .*prefix="203\.0\.113\.99/32"`,
		`CHANGE .*what="allow" detail="203\.0\.113\.98/32 allowed: a friend"`,
	)
	if err := rsyslogd.Kill(); err != nil {
		t.Fatal(err)
	}
	b.cmd("firewall", "off")
	b.Eventually(30*time.Second, "events wait", func() bool { return b.status().Mail.Syslog["siem"].Waiting >= 1 })
	b.weir.KillAll()
	b.startAnew()
	say(b.mustCall(), "EHLO out.example", "MAIL FROM:<b@out.example>", "QUIT")
	b.cmd("firewall", "on")
	b.collector()
	lines := b.collected(
		`CHANGE .*what="firewall" detail="off"`,
		`CHANGE .*what="firewall" detail="on"`,
		`TRANSACTION .*mail_from="b@out\.example"`,
		`ALARM .*alarm="syslog\.siem"`,
		`CLEAR .*alarm="syslog\.siem"`,
	)
	last := 0
	for _, l := range lines {
		var seq int
		_, after, _ := strings.Cut(l, `sequenceId="`)
		fmt.Sscanf(after, "%d", &seq)
		if seq > last+1 {
			t.Errorf("the sequence jumps from %d to %d at %s", last, seq, l)
		}
		last = max(last, seq)
	}
}

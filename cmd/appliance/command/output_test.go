package command

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/cmd/appliance/process"
	"mailweir/config"
	"mailweir/control"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/harvest"
)

// A mail role that was taken over answers what it likes. Whatever that is, the
// terminal of root gets printable text.
func TestLyingMailRoleDrivesNoTerminal(t *testing.T) {
	const evil = "\x1b]0;owned\x07\u009b31m\r\nweir: all is well\u202e"
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: mailapi.Socket(dir), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	line := record.Line{
		Ref: evil, Time: record.Time{Time: time.Unix(1, 0)}, Peer: netip.MustParseAddr("203.0.113.7"),
		Outcome: evil, Backend: evil, BackendReply: evil, Rcpts: []record.Rcpt{{To: evil}},
		Checks: []smtp.Check{{Name: evil, Detail: evil}},
	}
	raw, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /records", control.Stream(func(_ *http.Request, _ mailapi.RecordsRequest, emit func(any) error) error {
		return emit(json.RawMessage(raw))
	}))
	mux.Handle("POST /why", control.Handle(func(*http.Request, mailapi.WhyRequest) (record.Story, error) {
		return record.Story{
			Records: []json.RawMessage{raw}, Convictions: []record.Conviction{{Time: line.Time, Rule: evil, Window: evil, Guesses: []string{evil}}},
		}, nil
	}))
	mux.Handle("POST /top", control.Handle(func(*http.Request, mailapi.TopRequest) (mailapi.Top, error) {
		return mailapi.Top{Alarms: []string{evil}, Attackers: []harvest.Attacker{{Rule: evil, Marked: evil, Guess: evil}}}, nil
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, evil, http.StatusTeapot) })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go control.Serve(ctx, l, []uint32{uint32(os.Getuid())}, mux)

	for _, command := range []string{"records", "why 203.0.113.7", "top", "status", "test --from 203.0.113.7", "geo lookup 203.0.113.7",
		"records --json", "why 203.0.113.7 --json", "top --json"} {
		var out, said bytes.Buffer
		c := &cli{in: strings.NewReader(""), out: &out, err: &said, now: time.Now}
		c.execute(t.Context(), append([]string{"--run-dir", dir}, strings.Fields(command)...))
		all := out.String() + said.String()
		if strings.ContainsAny(all, "\x1b\x07\u009b\r\u202e") || strings.Contains(out.String(), "\nweir: all") {
			t.Errorf("weir %s writes %q", command, all)
		}
		if !strings.Contains(all, "owned") {
			t.Errorf("weir %s shows nothing of the answer: %q", command, all)
		}
	}
}

// What is escaped for terminals reads as the same value.
func TestJSONForTerminalsIsTheSameJSON(t *testing.T) {
	const evil = "\x1b\u009b31m\u202e\u2028\u2066\x7f \xff ü☺\U0001f600"
	var out bytes.Buffer
	c := &cli{out: &out}
	if err := c.printJSON(evil); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(strings.TrimSuffix(out.String(), "\n"), drives) {
		t.Errorf("written as %q", out.String())
	}
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != strings.ToValidUTF8(evil, "\ufffd") {
		t.Errorf("%q reads as %q, %v", out.String(), back, err)
	}
}

// A ban of two days reads as two days in its first half minute, and an entry of thirty days as thirty.
func TestSpan(t *testing.T) {
	t.Parallel()
	for of, want := range map[time.Duration]string{
		-time.Second:                     "0s",
		59400 * time.Millisecond:         "59s",
		59600 * time.Millisecond:         "1m0s",
		time.Hour - time.Second:          "59m59s",
		time.Hour + 29*time.Second:       "1h0m",
		48*time.Hour - 29*time.Second:    "2d0h",
		48*time.Hour - 31*time.Second:    "47h59m",
		30*24*time.Hour - 2*time.Second:  "30d0h",
		30*24*time.Hour - 31*time.Minute: "29d23h",
	} {
		if got := span(of); got != want {
			t.Errorf("%v reads %q, not %q", of, got, want)
		}
	}
}

// What a newcomer reads first is a sentence: nothing is said twice.
func TestPhrases(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: &out, now: func() time.Time { return screenTime }}
	peer := netip.MustParseAddr("203.0.113.7")
	c.printConviction(record.Conviction{Peer: peer, Rule: harvest.RuleHour, Window: "1h0m0s"})
	c.printConviction(record.Conviction{Peer: peer, Rule: harvest.RuleHour, Window: "1h0m0s", Enforced: true})
	c.printRecord(record.Line{Peer: peer, Outcome: smtp.Accepted, Backend: "office", BackendReply: "office: 250 2.0.0 OK: queued\n"})
	for _, want := range []string{
		"203.0.113.7 would have been convicted by the rule", "203.0.113.7 was convicted by the rule", "office said: 250 2.0.0 OK: queued",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing from\n%s", want, out.String())
		}
	}
}

// A role that weir run starts again needs nobody to start it.
func TestRoleAway(t *testing.T) {
	err := &control.Error{Class: control.NotRunning, Message: "start it"}
	if got := roleAway(err, "guard", []process.RoleState{{Name: "guard"}}); !strings.Contains(got, "weir run is starting it again") {
		t.Error(got)
	}
	if got := roleAway(err, "guard", nil); got != "start it" {
		t.Error(got)
	}
}

// While observing nothing of it was refused by policy, be it in one domain.
func TestStatusWhileObserving(t *testing.T) {
	var out bytes.Buffer
	(&cli{out: &out, now: time.Now}).printMailStatus(mailapi.Status{Reasons: map[string]uint64{"relaying": 3}, Spared: map[string]uint64{"score": 22}})
	if !strings.Contains(out.String(), "  refused relaying 3\n  spared  score 22: would be refused, but for observe") {
		t.Error(out.String())
	}
}

// What is taken out of the file is not said to be in force.
func TestReloadSaysWhatIsInForce(t *testing.T) {
	parse := func(text string) config.Config {
		_, cfg, problems := config.Parse("weir.toml", []byte("hostname = \"mx1.example.net\"\n"+text))
		if problems.Bad() {
			t.Fatal(problems)
		}
		return cfg
	}
	little := parse("[backend.a]\nurl = \"smtp://a.example\"\n[domain.\"a.example\"]\nbackends = [\"a\"]\n")
	much := parse("observe = true\n[smtp]\ngreet_wait = \"1s\"\nforwarders = [\"192.0.2.1\"]\n[backend.a]\nurl = \"smtp://a.example\"\n[backend.b]\nurl = \"smtp://b.example\"\n" +
		"[domain.\"a.example\"]\nbackends = [\"a\"]\nmax_message_size = \"1MiB\"\n")
	for _, tc := range []struct {
		old, next config.Config
		want      string
	}{
		{little, much, "observe: on now (was off)\nsmtp.greet_wait is in force\nsmtp.forwarders is in force\nbackend.b.url is in force\ndomain.\"a.example\".max_message_size is in force\n"},
		{much, little, "observe: off now (was on)\nsmtp.greet_wait is at its default again: \"4s\"\nsmtp.forwarders is taken out\nbackend.b.url is taken out\ndomain.\"a.example\".max_message_size is taken out\n"},
	} {
		var out bytes.Buffer
		var a reloadAnswer
		a.Changed, _ = config.Diff(tc.old, tc.next)
		a.Switched, a.Unset = config.Switched(tc.old, tc.next), config.Unset(tc.old, tc.next)
		if err := (&cli{out: &out}).printReload(a); err != nil {
			t.Fatal(err)
		}
		if out.String() != tc.want {
			t.Errorf("%q, want %q", out.String(), tc.want)
		}
	}
}

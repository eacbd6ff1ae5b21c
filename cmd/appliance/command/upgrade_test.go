package command

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/firewall/guard"
)

// sayer is a listener that says the same to every line, after a greeting.
func sayer(t *testing.T, greeting, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(greeting + "\r\n"))
			for in := bufio.NewScanner(c); in.Scan(); {
				c.Write([]byte(answer + "\r\n"))
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

// TestVersionHolds says for which machine a version on trial is kept: one whose
// operator closed the door is well, one that closed it itself is not.
func TestVersionHolds(t *testing.T) {
	const maintenance = "421 4.3.2 mx1 Closed for maintenance"
	well := guard.EngineStatus{Engine: "xdp", Working: true, Bans: 2}
	for name, c := range map[string]struct {
		greeting, answer string
		closed           bool
		engine           guard.EngineStatus
		want             string // of the error; "": kept
	}{
		"greets":                 {"220 mx1", "250 ok", false, well, ""},
		"closed by the operator": {maintenance, "", true, well, ""},
		"stopping":               {maintenance, "", false, well, "mail at 127.0.0.1"},
		"closed, and overloaded": {"421 4.7.0 too many", "", true, well, "mail at 127.0.0.1"},
		"refuses HELO":           {"220 mx1", "550 no", false, well, "mail at 127.0.0.1"},
		"bans missing":           {"220 mx1", "250 ok", false, guard.EngineStatus{Engine: "nft", Working: true, Bans: 1}, "nft holds 1 of 2"},
		"no room for all":        {"220 mx1", "250 ok", false, guard.EngineStatus{Engine: "nft", Working: true, Bans: 1, LeftOut: 1}, ""},
		"engine out":             {maintenance, "", true, guard.EngineStatus{Engine: "xdp", Bans: 2}, "xdp holds"},
	} {
		t.Run(name, func(t *testing.T) {
			s := wholeStatus{
				Guard: &guard.Status{Firewall: "on", Bans: 2, Engines: []guard.EngineStatus{c.engine}},
				Mail:  &mailapi.Status{Closed: c.closed, Listeners: []string{sayer(t, c.greeting, c.answer)}},
			}
			err := s.holds(context.Background())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	s := wholeStatus{Problems: []string{"mail does not run"}, Guard: &guard.Status{}}
	if err := s.holds(context.Background()); err == nil || !strings.Contains(err.Error(), "mail does not run") {
		t.Errorf("without mail: %v", err)
	}
}

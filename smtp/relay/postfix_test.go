package relay_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"mailweir/lab"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/relay"
)

// TestPostfix asks and delivers to a real Postfix with its own limits on: 10
// errors make it slow, 20 make it close (R-BW-15, R-JF-28).
func TestPostfix(t *testing.T) {
	l := lab.New(t)
	edge := l.Host("edge", "192.0.2.1")
	backend := l.Host("backend", "192.0.2.10")
	p := backend.Postfix(lab.PostfixOptions{Users: []string{"u1@example.com", "u2@example.com"}})
	route := postfixRoute(t, func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := edge.Dial(ctx, netip.MustParseAddrPort("192.0.2.10:25"))
		if err != nil {
			return nil, err
		}
		return c, nil
	})

	begun := time.Now()
	for i := range 60 {
		to := address.Mailbox{Local: fmt.Sprint("guess", i), Domain: "example.com"}
		if a := route.Oracle.Verify(t.Context(), to); a.State != smtp.Unknown || a.Reply.Code != 550 {
			t.Fatalf("guess %d: %+v\n%s", i, a, p.Log())
		}
	}
	t.Logf("60 guesses took %v", time.Since(begun))
	if strings.Contains(p.Log(), "too many errors") {
		t.Error("ran into Postfix's error limit")
	}
	u1 := address.Mailbox{Local: "u1", Domain: "example.com"}
	if a := route.Oracle.Verify(t.Context(), u1); a.State != smtp.Valid {
		t.Fatalf("u1: %+v", a)
	}
	if a := route.Oracle.Verify(t.Context(), address.Mailbox{Local: "u1", Domain: "elsewhere.example"}); a.State != smtp.Unavailable {
		t.Errorf("a domain that Postfix does not relay for: %+v", a)
	}

	body := "Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\xff\r\n"
	env := smtp.Envelope{To: []address.Mailbox{u1, {Local: "u2", Domain: "example.com"}}, Digest: [32]byte{1}, Size: int64(len(body))}
	if got := route.Deliverer.Deliver(t.Context(), env, strings.NewReader(body)); got.Reply.Code != 250 || !strings.Contains(got.Detail, "queued as") {
		t.Fatalf("receipt %+v", got)
	}
	l.Eventually(20*time.Second, "both have the mail", func() bool {
		return len(p.Mail("u1@example.com")) == 1 && len(p.Mail("u2@example.com")) == 1
	})
	got, err := os.ReadFile(p.Mail("u1@example.com")[0])
	if err != nil || !strings.HasSuffix(string(got), "\nSubject: dots\n\n.\n..\n.a\n\xff\n") {
		t.Errorf("arrived as %q, %v", got, err)
	}
	for line := range strings.Lines(p.Log()) {
		if strings.Contains(line, "lost connection") && strings.Contains(line, "[192.0.2.1]") {
			t.Errorf("we left without QUIT: %s", line)
		}
	}

	p.Kill()
	env.Digest = [32]byte{2}
	if got := route.Deliverer.Deliver(t.Context(), env, strings.NewReader(body)); got.Reply.Code != 451 {
		t.Errorf("Postfix is dead: %+v", got)
	}
	if a := route.Oracle.Verify(t.Context(), u1); a.State != smtp.Valid || a.Age != smtp.Cached {
		t.Errorf("u1 while Postfix is dead: %+v", a)
	}
	p.Start()
	l.Eventually(20*time.Second, "the retry is taken", func() bool {
		return route.Deliverer.Deliver(t.Context(), env, strings.NewReader(body)).Reply.Code == 250
	})
}

func postfixRoute(t *testing.T, dial relay.DialFunc) smtp.Route {
	t.Helper()
	memory, err := relay.OpenMemory(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := relay.ParseURL("smtp://192.0.2.10")
	if err != nil {
		t.Fatal(err)
	}
	b, err := relay.NewBackend(relay.BackendOptions{Name: "office", URL: u, Hostname: "edge.example", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	var domains []relay.Domain
	for _, d := range []string{"example.com", "elsewhere.example"} {
		domains = append(domains, relay.Domain{Name: d, Backends: []*relay.Backend{b}})
	}
	router, err := relay.NewRouter(domains, memory)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); router.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; memory.Close() })
	route, ok := router.Route("example.com")
	if !ok {
		t.Fatal("no route")
	}
	return route
}

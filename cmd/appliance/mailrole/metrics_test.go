package mailrole

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/dns"
	"mailweir/feed"
	"mailweir/firewall"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/record/syslog"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/relay"
	"mailweir/smtp/reply"
	"mailweir/smtp/scout"
)

// forgetful is a Recorder that keeps nothing.
type forgetful struct{}

func (forgetful) Announce(context.Context, smtp.Transaction)                      {}
func (forgetful) Record(smtp.Transaction)                                         {}
func (forgetful) Convicted(ref.Ref, netip.Addr, time.Time, smtp.Conviction, bool) {}

// wholeMetrics has something of everything.
func wholeMetrics() *measures {
	m := newMeasures(
		func(context.Context) mailapi.Status {
			return mailapi.Status{
				Started: time.Unix(1e9, 0), Connections: 7, Reasons: map[string]uint64{"harvest": 3},
				Backends: []relay.BackendStatus{{Name: "office", State: relay.StateUp, LatencyMs: 2, Answers: map[string]uint64{"ok": 2}}},
				DNS:      dns.Status{Servers: []dns.ServerStatus{{Server: netip.MustParseAddrPort("192.0.2.53:53")}}},
				Lists:    []scout.ListStatus{{Name: "zen", Why: "it lists everybody"}},
				Syslog:   map[string]syslog.Stats{"siem": {Sent: 5, Waiting: 2}},
				Load:     smtp.Crowded, Greylist: mailapi.GreylistStatus{Waiting: 4, Passed: 11},
				Feeds: []feed.Status{
					{Name: "drop", Entries: 1400, Fetched: time.Unix(1e9, 0), Tried: time.Unix(1e9+60, 0), Why: "404", Stale: true}, {Name: "new"},
				},
				Providers: []mailapi.ProviderStatus{{Name: "google", Networks: 40, Looked: time.Unix(1e9, 0)}, {Name: "yahoo", Why: "no answer"}},
			}
		},
		func() []record.Alarm { return []record.Alarm{{Name: "syslog.siem"}} },
		func(context.Context) *guard.Figures {
			return &guard.Figures{Firewall: "on", Bans: 2, Offences: map[string]uint64{"banned": 2}, Engines: []guard.EngineStatus{{
				Engine: "xdp", Working: true, Bans: 2, LeftOut: 3, Pending: 1, Flood: true, Counters: map[string]uint64{"banned": 9},
				Interfaces: []guard.InterfaceStatus{{Name: "eth0", Mode: "native"}}, Places: map[string]firewall.Place{"NL": {Seen: 4, Denied: 1}},
			}}}
		},
	)
	r := m.before(forgetful{})
	from := "a@example.com"
	r.Record(smtp.Transaction{Outcome: smtp.Rejected, Facts: smtp.Facts{HELO: "x", MailFrom: &from, Rcpts: []smtp.Recipient{{}}}})
	r.Record(smtp.Transaction{Facts: smtp.Facts{}})
	r.Convicted(ref.Ref(1), netip.Addr{}, time.Time{}, smtp.Conviction{Reason: reply.Harvest}, true)
	m.drop.Observe(0.0007)
	return m
}

// The names and helps are as promtool wants them.
func TestMetricsLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(wholeMetrics().registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Every part is there, every reason from the start, and what a stranger says
// makes no new time series.
func TestMetricsTellEverything(t *testing.T) {
	m := wholeMetrics()
	s := metricsServer{from: m.registry}
	scrape := func() string {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	text := scrape()
	want := []string{
		`weir_transactions_total{outcome="rejected",stage="rcpt"} 1`, `weir_transactions_total{outcome="session",stage="connect"} 1`,
		`weir_convictions_total{enforced="yes",reason="harvest"} 1`, `weir_conviction_to_drop_seconds_bucket{le="0.001"} 1`, `weir_conviction_to_drop_seconds_bucket{le="0.0005"} 0`,
		`weir_connections_total 7`, `weir_refusals_total{reason="harvest"} 3`, `weir_backend_up{backend="office"} 1`, `weir_backend_latency_seconds{backend="office"} 0.002`,
		`weir_backend_answers_total{backend="office",meaning="ok"} 2`, `weir_dns_server_up{server="192.0.2.53:53"} 1`, `weir_dnsbl_up{list="zen"} 0`,
		`weir_syslog_waiting{collector="siem"} 2`, `weir_alarm{alarm="syslog.siem"} 1`, `weir_bans 2`, `weir_engine_bans{engine="xdp"} 2`,
		`weir_engine_packets_total{counter="banned",engine="xdp"} 9`, `weir_engine_interface{engine="xdp",interface="eth0",mode="native"} 1`,
		`weir_engine_bans_left_out{engine="xdp"} 3`, `weir_engine_flood{engine="xdp"} 1`,
		`weir_load{load="crowded"} 1`, `weir_load{load="full"} 0`, `weir_load{load="half_full"} 0`, `weir_greylist_waiting 4`, `weir_greylist_passed 11`,
		`weir_feed_up{feed="drop"} 0`, `weir_feed_entries{feed="drop"} 1400`, `weir_feed_stale{feed="drop"} 1`, `weir_feed_fetched_time_seconds{feed="drop"} 1e+09`,
		`weir_feed_tried_time_seconds{feed="drop"} 1.00000006e+09`, `weir_feed_up{feed="new"} 1`,
		`weir_provider_up{provider="google"} 1`, `weir_provider_up{provider="yahoo"} 0`, `weir_provider_networks{provider="google"} 40`, `weir_provider_looked_time_seconds{provider="google"} 1e+09`,
		`weir_place_denied_total{engine="xdp",place="NL"} 1`, `weir_offences_total{outcome="banned"} 2`, `weir_guard_up 1`,
	}
	for _, r := range reply.Table() {
		want = append(want, `weir_refusals_total{reason="`+string(r.Reason)+`"} `)
	}
	for _, w := range want {
		if !strings.Contains(text, "\n"+w) {
			t.Errorf("%s is missing", w)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	r := m.before(forgetful{})
	for range 1000 {
		r.Record(smtp.Transaction{Outcome: smtp.Rejected, Reason: reply.Harvest, Facts: smtp.Facts{HELO: time.Now().String()}})
	}
	if n := strings.Count(scrape(), "\n") - strings.Count(text, "\n"); n > 1 {
		t.Errorf("%d more lines after a thousand strangers, want one", n)
	}
}

// Whoever opens connections to it without end takes no more than a few of the
// mail role's descriptors.
func TestMetricsTakeFewConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	var running sync.WaitGroup
	s := metricsServer{from: wholeMetrics().registry, alarms: alarmsSaid{}, log: slog.New(slog.DiscardHandler)}
	s.use(t.Context(), &running, at)
	defer func() { s.stop(); running.Wait() }()
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	const flood = 300
	before := descriptors()
	var idle []net.Conn
	for range flood {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	for end := time.Now().Add(time.Minute); descriptors() < before+flood+maxScrapers; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no connection is taken")
		}
	}
	if n := descriptors() - before - flood; n > maxScrapers+10 {
		t.Errorf("%d idle connections take %d descriptors", flood, n)
	}
	for _, c := range idle {
		c.Close()
	}
	r, err := http.Get("http://" + at + "/metrics")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("when they are gone: %v, %v", r, err)
	}
	r.Body.Close()
}

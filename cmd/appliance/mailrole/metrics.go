package mailrole

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/feed"
	"mailweir/firewall/guard"
	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/relay"
	"mailweir/smtp/reply"
)

// Every label of a metric has few values, and none of them is a stranger's:
// reasons, outcomes, stages, engines and their counters, places that there are
// in the world, and names out of the configuration file.

// measures are what Prometheus reads of the appliance: what is counted here as it
// happens, and what weir status shows, read when it is asked for.
type measures struct {
	registry *prometheus.Registry
	stages   *prometheus.CounterVec
	drop     prometheus.Histogram
	convicts *prometheus.CounterVec
}

// newMeasures takes what reads the roles' status; a guard that does not answer is
// nil.
func newMeasures(mail func(context.Context) mailapi.Status, alarms func() []record.Alarm, figures func(context.Context) *guard.Figures) *measures {
	m := &measures{
		registry: prometheus.NewRegistry(),
		stages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_transactions_total", Help: "Transactions, and sessions that had none, by what became of them and how far they came.",
		}, []string{"outcome", "stage"}),
		drop: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_conviction_to_drop_seconds", Help: "From the conviction of a source to guard's word that the kernel drops it.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05},
		}),
		convicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_convictions_total", Help: "Sources convicted, by reason, and whether that was enforced.",
		}, []string{"reason", "enforced"}),
	}
	m.registry.MustRegister(m.stages, m.drop, m.convicts, &snapshot{mail, alarms, figures})
	return m
}

// stageOf is the last command that a session came to.
func stageOf(f *smtp.Facts, o smtp.Outcome) string {
	switch {
	case o == smtp.Accepted || o == smtp.Spooled || f.Size > 0:
		return "data"
	case len(f.Rcpts) > 0:
		return "rcpt"
	case f.MailFrom != nil:
		return "mail"
	case f.HELO != "":
		return "helo"
	}
	return "connect"
}

// before counts what goes to a Recorder.
func (m *measures) before(next smtp.Recorder) smtp.Recorder { return counting{m, next} }

type counting struct {
	*measures
	next smtp.Recorder
}

func (c counting) Announce(ctx context.Context, t smtp.Transaction) { c.next.Announce(ctx, t) }

func (c counting) Record(t smtp.Transaction) {
	outcome := t.Outcome
	if outcome == "" {
		outcome = "session"
	}
	c.stages.WithLabelValues(string(outcome), stageOf(&t.Facts, t.Outcome)).Inc()
	c.next.Record(t)
}

func (c counting) Convicted(r ref.Ref, peer netip.Addr, at time.Time, k smtp.Conviction, enforced bool) {
	c.convicts.WithLabelValues(string(k.Reason), yesNo(enforced)).Inc()
	c.next.Convicted(r, peer, at, k, enforced)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// snapshot makes metrics of the status of the moment.
type snapshot struct {
	mail    func(context.Context) mailapi.Status
	alarms  func() []record.Alarm
	figures func(context.Context) *guard.Figures
}

// Describe sends nothing: which metrics there are depends on the configuration.
func (s *snapshot) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s *snapshot) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	x := exposition(to)
	x.mail(s.mail(ctx))
	for _, a := range s.alarms() {
		x.gauge("weir_alarm", "Alarms that stand.", 1, "alarm", a.Name)
	}
	f := s.figures(ctx)
	x.gauge("weir_guard_up", "Whether guard answers.", truth(f != nil))
	if f != nil {
		x.guard(f)
	}
}

// exposition is where metrics go.
type exposition chan<- prometheus.Metric

// labels are names and values in turns.
func (x exposition) counter(name, help string, v float64, labels ...string) {
	x.put(prometheus.CounterValue, name, help, v, labels)
}

func (x exposition) gauge(name, help string, v float64, labels ...string) {
	x.put(prometheus.GaugeValue, name, help, v, labels)
}

func (x exposition) put(kind prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for l := range slices.Chunk(labels, 2) {
		names, values = append(names, l[0]), append(values, l[1])
	}
	x <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (x exposition) mail(m mailapi.Status) {
	x.gauge("weir_start_time_seconds", "When the mail role started.", float64(m.Started.Unix()))
	x.gauge("weir_observe", "Whether nothing is refused or dropped.", truth(m.Observe))
	x.gauge("weir_connections_open", "SMTP connections now.", float64(m.Open))
	x.counter("weir_connections_total", "SMTP connections accepted.", float64(m.Connections))
	for _, r := range reply.Table() {
		x.counter("weir_refusals_total", "Refusals by reason.", float64(m.Reasons[string(r.Reason)]), "reason", string(r.Reason))
		x.counter("weir_spared_total", "What would have been refused, but for observe or for who the source is, by reason.", float64(m.Spared[string(r.Reason)]), "reason", string(r.Reason))
	}
	x.gauge("weir_harvest_sources", "Sources that are remembered for whom they wrote to.", float64(m.Sources))
	for _, b := range m.Backends {
		x.gauge("weir_backend_up", "Whether a backend takes mail.", truth(b.State == relay.StateUp), "backend", b.Name)
		x.gauge("weir_backend_latency_seconds", "Moving average over some ten answers.", b.LatencyMs/1000, "backend", b.Name)
		x.gauge("weir_backend_deliveries", "Messages under way.", float64(b.Sending), "backend", b.Name)
		for _, meaning := range slices.Sorted(maps.Keys(b.Answers)) {
			x.counter("weir_backend_answers_total", "Answers by meaning.", float64(b.Answers[meaning]), "backend", b.Name, "meaning", meaning)
		}
	}
	x.records(m.Records)
	for _, name := range slices.Sorted(maps.Keys(m.Syslog)) {
		s := m.Syslog[name]
		x.counter("weir_syslog_sent_total", "Events sent.", float64(s.Sent), "collector", name)
		x.counter("weir_syslog_lost_total", "Events lost.", float64(s.Lost), "collector", name)
		x.gauge("weir_syslog_waiting", "Events that the collector is not known to have.", float64(s.Waiting), "collector", name)
		x.gauge("weir_syslog_buffer_bytes", "Of those, on disk.", float64(s.Bytes), "collector", name)
	}
	for _, d := range m.DNS.Servers {
		x.gauge("weir_dns_server_up", "Whether a resolver can be believed.", truth(d.Why == ""), "server", d.Server.String())
	}
	x.gauge("weir_dns_answers_kept", "Answers in the cache.", float64(m.DNS.Kept))
	for _, l := range m.Lists {
		x.gauge("weir_dnsbl_up", "Whether a DNS list is asked.", truth(l.Why == ""), "list", l.Name)
	}
	for _, l := range []smtp.Load{smtp.HalfFull, smtp.Crowded, smtp.Full} {
		x.gauge("weir_load", "What is done because of how many connections are open.", truth(m.Load == l), "load", string(l))
	}
	x.gauge("weir_greylist_waiting", "First contacts that are to come again; some under two keys.", float64(m.Greylist.Waiting))
	x.gauge("weir_greylist_passed", "Contacts that came again.", float64(m.Greylist.Passed))
	x.published(m.Feeds, m.Providers)
}

// published is what others publish and we fetch. What went wrong last weir
// status tells.
func (x exposition) published(feeds []feed.Status, providers []mailapi.ProviderStatus) {
	when := func(name, help string, at time.Time, label, of string) {
		if !at.IsZero() {
			x.gauge(name, help, float64(at.Unix()), label, of)
		}
	}
	for _, f := range feeds {
		x.gauge("weir_feed_up", "Whether the last fetch of a feed came to something.", truth(f.Why == ""), "feed", f.Name)
		x.gauge("weir_feed_entries", "Entries in force.", float64(f.Entries), "feed", f.Name)
		x.gauge("weir_feed_stale", "Whether what is in force is older than it should be.", truth(f.Stale), "feed", f.Name)
		when("weir_feed_fetched_time_seconds", "When what is in force was fetched or seen unchanged.", f.Fetched, "feed", f.Name)
		when("weir_feed_tried_time_seconds", "When a fetch was last tried.", f.Tried, "feed", f.Name)
	}
	for _, p := range providers {
		x.gauge("weir_provider_up", "Whether the last look-up of a provider's networks came to something.", truth(p.Why == ""), "provider", p.Name)
		x.gauge("weir_provider_networks", "Networks that are spared.", float64(p.Networks), "provider", p.Name)
		when("weir_provider_looked_time_seconds", "When they were looked up.", p.Looked, "provider", p.Name)
	}
}

func (x exposition) records(r record.Stats) {
	x.gauge("weir_records_bytes", "Of all record files.", float64(r.Bytes))
	x.gauge("weir_records_queued_bytes", "Waiting for the disk.", float64(r.Queued))
	x.counter("weir_records_total", "Records taken.", float64(r.Recorded))
	x.counter("weir_records_lost_total", "Records lost.", float64(r.Dropped))
}

func (x exposition) guard(f *guard.Figures) {
	x.gauge("weir_firewall_on", "Whether the kernel is to drop who is banned.", truth(f.Firewall == "on"))
	x.gauge("weir_bans", "Bans that stand.", float64(f.Bans))
	x.gauge("weir_allowed_prefixes", "Entries of the allow list.", float64(f.Allow))
	for _, outcome := range slices.Sorted(maps.Keys(f.Offences)) {
		x.counter("weir_offences_total", "Offences by what guard made of them.", float64(f.Offences[outcome]), "outcome", outcome)
	}
	for _, e := range f.Engines {
		x.gauge("weir_engine_up", "Whether an engine enforces.", truth(e.Working), "engine", e.Engine)
		x.gauge("weir_engine_bans", "Bans in an engine's table.", float64(e.Bans), "engine", e.Engine)
		x.gauge("weir_engine_bans_left_out", "Bans that an engine's table has no room for.", float64(e.LeftOut), "engine", e.Engine)
		x.gauge("weir_engine_pending", "Changes of bans that an engine has still to write.", float64(e.Pending), "engine", e.Engine)
		x.gauge("weir_engine_flood", "Whether an engine's flood guard is active.", truth(e.Flood), "engine", e.Engine)
		for _, c := range slices.Sorted(maps.Keys(e.Counters)) {
			x.counter("weir_engine_packets_total", "Packets by what became of them.", float64(e.Counters[c]), "engine", e.Engine, "counter", c)
		}
		for _, i := range e.Interfaces {
			x.gauge("weir_engine_interface", "Where an engine stands.", truth(i.Mode != ""), "engine", e.Engine, "interface", i.Name, "mode", i.Mode)
		}
		for _, p := range slices.Sorted(maps.Keys(e.Places)) {
			x.counter("weir_place_connections_total", "New connections by country, and by network that a rule names.", float64(e.Places[p].Seen), "engine", e.Engine, "place", p)
			x.counter("weir_place_denied_total", "Of these, denied.", float64(e.Places[p].Denied), "engine", e.Engine, "place", p)
		}
	}
}

package smtp_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/record/syslog"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// events keeps what syslog would be told.
type events []map[string]string

func (e *events) Send(m *syslog.Message) {
	said := map[string]string{"id": m.ID}
	for _, p := range m.Params {
		said[p.Name] = p.Value
	}
	*e = append(*e, said)
}

// eventsOf are the events of transactions.
func eventsOf(records []smtp.Transaction) (list events) {
	log := record.NewLog("mx.example.net", time.Now, &list)
	for i := range records {
		log.Transaction(&records[i])
	}
	return list
}

// tell says whether an event tells a reply to a client, and in the word of its
// reason's alias; false too where none does.
func (e events) tell(id, line string) bool {
	return slices.ContainsFunc(e, func(said map[string]string) bool {
		return said["ref"] == id && said["code"] == line[:3] && strings.HasSuffix(line, said["text"]) &&
			said["alias"] == reply.Reason(said["reason"]).Alias()
	})
}

// unbanned bans nobody.
type unbanned struct{}

func (unbanned) Convict(time.Time, netip.Addr, reply.Reason, ref.Ref, int) (netip.Prefix, time.Time, bool) {
	return netip.Prefix{}, time.Time{}, false
}
func (unbanned) Banned(time.Time, netip.Addr) bool { return false }

// replayed is what a replay of records under the policy that they were made
// under says; without: these keys are taken out of each line.
func replayed(t testing.TB, w *world, records []smtp.Transaction, without ...string) (said []string) {
	t.Helper()
	p := replay.New(replay.Options{
		Chain: w.opts.Policy.Chain, Domains: w.opts.Policy.Domains, Bans: unbanned{}, Observe: w.opts.Policy.Observe, Tier: w.opts.Tiers.Tier,
	})
	for i := range records {
		l := record.NewLine(&records[i], "mx.example.net")
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(b, &keys); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(keys, func(k string, _ json.RawMessage) bool { return slices.Contains(without, k) })
		if b, err = json.Marshal(keys); err != nil {
			t.Fatal(err)
		}
		var bare record.Line
		if err := json.Unmarshal(b, &bare); err != nil {
			t.Fatal(err)
		}
		p.Add(&bare)
	}
	sum, err := p.Play(func(v any) error {
		b, err := json.Marshal(v)
		said = append(said, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(said, strconv.Itoa(sum.Changed))
}

// replaysAlike holds that judging records again comes to what it came to, by the
// facts alone.
func replaysAlike(t testing.TB, w *world, records []smtp.Transaction) {
	t.Helper()
	whole := replayed(t, w, records)
	if len(whole) > 1 {
		t.Errorf("a replay comes to something else: %s", strings.Join(whole, "\n"))
	}
	bare := replayed(t, w, records, "checks", "score", "outcome", "reason", "alias", "tier")
	if !slices.Equal(whole, bare) {
		t.Errorf("without what was decided it comes to %s", strings.Join(bare, "\n"))
	}
}

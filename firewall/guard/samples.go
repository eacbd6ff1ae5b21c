package guard

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailweir/firewall"
)

// Engines show some of the packets that they drop. Guard merges them by source
// and reason; the mail role, which speaks to collectors, fetches what came since
// it last did.

// mostSampled is how many sources are told apart between two questions, and
// others are not told of. mostTold of them, the loudest, fit in an
// answer.
const (
	mostSampled = 4096
	mostTold    = 200
)

// Sample is what was seen dropped of one source for one reason. It is no count
// of its packets: only some are looked at.
type Sample struct {
	Source netip.Addr `json:"source"` // of IPv6 the /64's first address
	Reason string     `json:"reason"` // a reason of Status.Counters
	Engine string     `json:"engine"`
	Port   uint16     `json:"port,omitempty"`
	Seen   int        `json:"seen"` // samples
	First  time.Time  `json:"first"`
	Last   time.Time  `json:"last"`
}

// sampler is an engine that shows some of what it drops.
type sampler interface {
	Samples(ctx context.Context) ([]firewall.Sample, error)
}

// sampled is what came since the last answer.
type sampled struct {
	mu     sync.Mutex
	merged map[sampleKey]*Sample
}

type sampleKey struct {
	source netip.Addr
	reason string
	engine string
}

// sample takes in what the engines show.
func (s *Server) sample() {
	s.engines.each(func(e *engine) {
		from, ok := e.enf.(sampler)
		if !ok || !e.working() || !e.idle() {
			return
		}
		list, err := from.Samples(context.Background())
		e.trouble("samples", err)
		s.samples.add(e.name, list, s.cfg.Now())
	})
}

func (s *sampled) add(engine string, list []firewall.Sample, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merged == nil {
		s.merged = map[sampleKey]*Sample{}
	}
	for _, one := range list {
		source := one.Source
		if source.Is6() {
			p, _ := source.Prefix(64)
			source = p.Addr()
		}
		k := sampleKey{source, one.Reason, engine}
		m := s.merged[k]
		if m == nil {
			if len(s.merged) >= mostSampled {
				continue
			}
			m = &Sample{Source: source, Reason: one.Reason, Engine: engine, First: now}
			s.merged[k] = m
		}
		m.Seen++
		m.Port, m.Last = one.Port, now
	}
}

// answer is what came, the loudest first, and forgets it.
func (s *sampled) answer() []byte {
	s.mu.Lock()
	list := make([]Sample, 0, len(s.merged))
	for _, m := range s.merged {
		list = append(list, *m)
	}
	s.merged = nil
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(b.Seen, a.Seen), a.Source.Compare(b.Source), cmp.Compare(a.Reason, b.Reason))
	})
	b, err := json.Marshal(list[:min(len(list), mostTold)])
	if err != nil {
		return []byte("[]") // never: nothing in it can fail
	}
	return b
}

// Samples fetches what was seen dropped since the last question.
func (c *Client) Samples(ctx context.Context) (list []Sample, err error) {
	err = c.tell(ctx, ask(askSamples, 0), &list)
	return list, err
}

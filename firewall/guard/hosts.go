package guard

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// lookupTimeout bounds the look-up of one host.
const lookupTimeout = 5 * time.Second

// hosts knows the addresses of the host names that a policy protects. A name
// that cannot be looked up keeps the addresses it had: a resolver that is away
// must not take the protection from a backend.
type hosts struct {
	resolver Resolver
	log      *slog.Logger

	mu     sync.Mutex
	known  map[string][]netip.Addr
	failed map[string]string
}

func newHosts(r Resolver, log *slog.Logger) *hosts {
	return &hosts{resolver: r, log: log, known: map[string][]netip.Addr{}, failed: map[string]string{}}
}

func (h *hosts) addresses(name string) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[name]
}

// lookup asks for all names at once, and waits for the answers.
func (h *hosts) lookup(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			addrs, err := h.resolver.LookupNetIP(ctx, "ip", name)
			h.learn(name, addrs, err)
		})
	}
	wg.Wait()
}

func (h *hosts) learn(name string, addrs []netip.Addr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if h.failed[name] == "" {
			h.log.Warn("a protected host cannot be looked up, what is known of it stays", "host", name, "error", err)
		}
		h.failed[name] = err.Error()
		return
	}
	delete(h.failed, name)
	h.known[name] = nil
	for _, a := range addrs {
		h.known[name] = append(h.known[name], a.Unmap())
	}
}

// unknown names the hosts of whom no address is known: nothing protects them.
func (h *hosts) unknown(names []string) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		if len(h.known[name]) == 0 && h.failed[name] != "" {
			list = append(list, name)
		}
	}
	return list
}

func (p Policy) hosts() (names []string) {
	for _, protected := range p.Protect {
		for _, name := range protected.Hosts {
			names = appendNew(names, name)
		}
	}
	return names
}

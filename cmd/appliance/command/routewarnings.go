package command

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/smtp/relay"
)

// mostLookUps of backends go on at a time.
const mostLookUps = 16

// routeWarnings are the backends of a file whose names the DNS does not know:
// all mail for them would be put off. A DNS that does not answer says nothing,
// and is waited for as long as any other question of weir check.
func (c *cli) routeWarnings(ctx context.Context, path string) (list config.Problems) {
	f, cfg, problems, err := config.Read(path)
	if err != nil || problems.Bad() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hitsWithin)
	defer cancel()
	names := settings.NewResolver(cfg.DNS)
	unknown := make([]bool, len(cfg.Backends))
	var asked sync.WaitGroup
	places := make(chan struct{}, mostLookUps)
	for i, b := range cfg.Backends {
		u, err := relay.ParseURL(b.URL)
		if _, number := netip.ParseAddr(u.Host); err != nil || u.Network != "tcp" || number == nil {
			continue
		}
		asked.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			_, err := names.LookupNetIP(ctx, "ip", u.Host)
			no := (*net.DNSError)(nil)
			unknown[i] = errors.As(err, &no) && no.IsNotFound
		})
	}
	asked.Wait()
	for i, b := range cfg.Backends {
		if unknown[i] {
			u, _ := relay.ParseURL(b.URL)
			list = append(list, f.Warning(config.Path("backend", b.Name, "url"), "the DNS knows no address of "+u.Host+", so that all mail for it hears 451",
				"see whether the name is right, and dns.servers, or write the server's address"))
		}
	}
	return list
}

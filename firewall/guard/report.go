package guard

import (
	"context"
	"net/http"
	"net/netip"
	"slices"

	"mailweir/control"
	"mailweir/firewall"
)

// streamed is how many bans the engines are asked for at a time while they are
// listed: one dump of a large set is cheaper than many.
const streamed = 100_000

func (s *Server) status(ctx context.Context) Status {
	st := Status{
		Firewall: s.firewall(), Observe: s.currentPolicy().Observe, Started: s.started,
		Bans: s.ledger.Len(), Allow: len(s.allow.list()), Engines: s.engines.status(ctx),
		Protected: s.ledger.Guards().List(), Offences: s.court.offences(), Trials: s.trials.list(), Alarms: []string{},
	}
	for _, a := range s.alarmList(st.Engines) {
		st.Alarms = append(st.Alarms, a.Text)
	}
	return st
}

// firewallAlarms are of what should stand in the kernel and does not.
func (s *Server) firewallAlarms(engines []EngineStatus) (alarms []Alarm) {
	switch s.firewall() {
	case "disabled":
		return nil
	case "off":
		return []Alarm{{"firewall_off", "the firewall was switched off by the operator, the kernel drops nothing: `weir firewall on` puts it back"}}
	}
	working := 0
	for _, e := range engines {
		if e.Working {
			working++
		}
		for _, p := range e.Problems {
			alarms = append(alarms, Alarm{"engine_" + e.Engine, e.Engine + ": " + p})
		}
	}
	if working == 0 {
		alarms = append(alarms, Alarm{"no_engine", "no engine works, the kernel drops nothing: banned sources are refused by the mail role only"})
	}
	return alarms
}

func (s *Server) verbBans(r *http.Request, _ control.None, emit func(any) error) error {
	if within := r.URL.Query().Get("within"); within != "" {
		p, err := ParsePrefix(within)
		if err != nil {
			return control.Usagef("%v", err)
		}
		standing, _ := s.ledger.At(p)
		return s.emit(r.Context(), standing, emit)
	}
	buf := make([]firewall.Entry, 0, 1024)
	for e := range s.ledger.Entries() {
		if buf = append(buf, e); len(buf) == streamed {
			if err := s.emit(r.Context(), buf, emit); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return s.emit(r.Context(), buf, emit)
}

func (s *Server) emit(ctx context.Context, entries []firewall.Entry, emit func(any) error) error {
	for _, b := range s.infos(ctx, entries) {
		if err := emit(b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Server) infos(ctx context.Context, entries []firewall.Entry) []BanInfo {
	list := make([]BanInfo, len(entries))
	for i, e := range entries {
		list[i] = info(e)
	}
	if len(list) > 0 {
		s.engines.hits(ctx, list)
	}
	return list
}

func info(e firewall.Entry) BanInfo {
	return BanInfo{
		Prefix: e.Prefix, Since: e.Since.UTC(), Until: e.Until.UTC(), Permanent: e.Until.Equal(firewall.Forever),
		Reason: e.Reason, Ref: e.Ref, Step: e.Step, Why: e.Why,
	}
}

func (s *Server) verbWhy(r *http.Request, _ control.None) (Explanation, error) {
	addr, err := netip.ParseAddr(r.URL.Query().Get("addr"))
	if err != nil {
		return Explanation{}, control.Usagef("%q is no address", r.URL.Query().Get("addr"))
	}
	addr = addr.Unmap().WithZone("")
	host := netip.PrefixFrom(addr, addr.BitLen())
	standing, past := s.ledger.At(host)
	e := Explanation{
		Address: addr,
		Bans:    s.infos(r.Context(), standing),
		Past:    s.infos(r.Context(), past),
		Allow:   append([]AllowEntry{}, covering(s.allow.list(), host)...),
		Guards:  append([]firewall.Guarded{}, s.ledger.Guards().Covering(host)...),
	}
	e.Banned = len(standing) > 0 && len(e.Guards) == 0 && s.enforcing() && !s.currentPolicy().Observe &&
		slices.ContainsFunc(s.engines.list, (*engine).working)
	return e, nil
}

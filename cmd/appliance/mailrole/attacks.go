package mailrole

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailweir/config"
	"mailweir/smtp/harvest"
)

// collateralFor is how long the alarm of a source that was spared stands.
const collateralFor = 24 * time.Hour

// attackAlarm raises what the engine wants somebody to look at. It is called
// within an event and neither blocks nor asks the engine. That a backend takes
// everybody, its route says already.
func (m *mail) attackAlarm(a harvest.Alarm) {
	if a.Name == "accept_all" {
		return
	}
	m.events.Alarm(attackName(a), attackText(a, m.observes(a.Domain)))
	if a.Name == "collateral" {
		m.attacks.Lock()
		m.spared = m.now()
		m.attacks.Unlock()
	}
}

// attackName is the alarm's name, one for each domain.
func attackName(a harvest.Alarm) string {
	if a.Domain == "" {
		return a.Name
	}
	return a.Name + ":" + a.Domain
}

// observes tells whether nothing is refused by policy in a domain; "": in any.
func (m *mail) observes(domain string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return observes(m.cfg, domain)
}

func observes(cfg config.Config, domain string) bool {
	return cfg.Observe || slices.ContainsFunc(cfg.Domains, func(d config.Domain) bool { return d.Name == domain && d.Observe })
}

// enforcedNow tells of the attacks that strangers hear of from now on: an attack
// is what happens, whether policy observes or not, so it does not end with
// observe, and the 451 begin at once.
func enforcedNow(attacks []harvest.Alarm, old, next config.Config) (texts []string) {
	for _, a := range attacks {
		if a.Name == "under_attack" && observes(old, a.Domain) && !observes(next, a.Domain) {
			texts = append(texts, attackText(a, false))
		}
	}
	return texts
}

func attackText(a harvest.Alarm, observe bool) string {
	switch a.Name {
	case "under_attack":
		if a.Domain == "" {
			a.Domain = "every domain"
		}
		hear := "hear"
		if observe {
			hear = "would hear"
		}
		return fmt.Sprintf("%s is being guessed at: %s; strangers %s 451 for now, see weir top", a.Domain, a.Detail, hear)
	case "directory_broken":
		return fmt.Sprintf("the directory of %s is broken: %s; nobody is convicted and unknown recipients hear 451 until it takes one again, see to the server behind", a.Domain, a.Detail)
	}
	return a.Detail + "; see weir why, and weir ban if it should be banned"
}

// runWatch keeps the engine's state on disk, sends canaries, and clears alarms
// that are over.
func (m *mail) runWatch(life context.Context, background *sync.WaitGroup) {
	keep, look := time.NewTicker(harvest.KeepEvery), time.NewTicker(canaryEvery)
	background.Go(func() {
		defer keep.Stop()
		m.watch.Keep(life, m.watchFile(), keep.C, func(err error) {
			if err == nil {
				m.events.Clear("harvest_state", "it is kept again")
				return
			}
			m.log.Error("harvest", "error", err)
			m.events.Alarm("harvest_state", err.Error())
		})
	})
	background.Go(func() {
		defer look.Stop()
		m.canaries.run(life, look.C)
	})
	calm := time.NewTicker(10 * time.Second)
	background.Go(func() {
		defer calm.Stop()
		m.clearAttacks(life, calm.C)
	})
}

// clearAttacks clears the alarms of attacks and broken directories that are
// over.
func (m *mail) clearAttacks(ctx context.Context, tick <-chan time.Time) {
	stood := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		stand := map[string]bool{}
		for _, a := range m.watch.Alarms(m.now()) {
			stand[attackName(a)] = true
			m.events.Alarm(attackName(a), attackText(a, m.observes(a.Domain))) // after a restart nobody else says so
		}
		for name := range stood {
			if !stand[name] {
				m.events.Clear(name, "it is over")
			}
		}
		stood = stand
		m.attacks.Lock()
		if !m.spared.IsZero() && m.now().Sub(m.spared) > collateralFor {
			m.spared = time.Time{}
			m.events.Clear("collateral", "a day has passed")
		}
		m.attacks.Unlock()
	}
}

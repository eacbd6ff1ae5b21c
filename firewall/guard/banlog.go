package guard

import (
	"log/slog"
	"time"

	"mailweir/firewall"
)

// banLog writes one line for each change of a ban, or of what the operator
// orders otherwise, and keeps it for the mail role.
type banLog struct {
	log     *slog.Logger
	now     func() time.Time
	history history
}

func newBanLog(log *slog.Logger, now func() time.Time) *banLog {
	return &banLog{log: log, now: now, history: history{start: now()}}
}

// banned takes an operator's ban with his words for it.
func (b *banLog) banned(ban firewall.Ban, why string, enforced bool) {
	b.log.Info("banned", "prefix", ban.Prefix, "until", ban.Until.UTC(), "reason", ban.Reason,
		"ref", ban.Ref, "step", ban.Step, "enforced", enforced)
	b.keep(WasBanned, ban, why)
}

func (b *banLog) lifted(ban firewall.Ban) {
	b.log.Info("ban lifted", "prefix", ban.Prefix, "reason", ban.Reason, "ref", ban.Ref)
	b.history.add(Event{Kind: WasLifted, Time: b.now(), Prefix: ban.Prefix, Reason: ban.Reason, Ref: ban.Ref, By: operator})
}

func (b *banLog) pardoned(p firewall.Pardon) {
	b.log.Info("ban lifted by a guard", "prefix", p.Ban.Prefix, "reason", p.Ban.Reason,
		"ref", p.Ban.Ref, "guard", p.Guard.Guard, "guarded", p.Guard.Prefix)
	b.keep(WasLifted, p.Ban, "protected as "+p.Guard.Guard)
}

// operator is who orders on the operator's socket, where nobody else is heard.
const operator = "operator"

func (b *banLog) keep(kind EventKind, ban firewall.Ban, why string) {
	e := Event{Kind: kind, Time: b.now(), Prefix: ban.Prefix, Reason: ban.Reason, Ref: ban.Ref, Step: ban.Step, Why: why}
	if !ban.Until.Equal(firewall.Forever) {
		e.Until = ban.Until
	}
	if ban.Reason == firewall.Operator {
		e.By = operator
	}
	b.history.add(e)
}

// changed keeps what else the operator did.
func (b *banLog) changed(by, what, detail string) {
	b.history.add(Event{Kind: Changed, Time: b.now(), By: by, What: what, Why: detail})
}

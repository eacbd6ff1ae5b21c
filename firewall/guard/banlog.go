package guard

import (
	"log/slog"

	"mailweir/firewall"
)

// banLog writes one line for each change of a ban.
type banLog struct{ log *slog.Logger }

func (b banLog) banned(ban firewall.Ban, enforced bool) {
	b.log.Info("banned", "prefix", ban.Prefix, "until", ban.Until.UTC(), "reason", ban.Reason,
		"ref", ban.Ref, "step", ban.Step, "enforced", enforced)
}

func (b banLog) lifted(ban firewall.Ban) {
	b.log.Info("ban lifted", "prefix", ban.Prefix, "reason", ban.Reason, "ref", ban.Ref)
}

func (b banLog) pardoned(p firewall.Pardon) {
	b.log.Info("ban lifted by a guard", "prefix", p.Ban.Prefix, "reason", p.Ban.Reason,
		"ref", p.Ban.Ref, "guard", p.Guard.Guard, "guarded", p.Guard.Prefix)
}

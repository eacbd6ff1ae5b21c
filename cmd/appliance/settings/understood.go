package settings

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"mailweir/config"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// Understood is what an appliance starts with when its file has mistakes
// and no good one was kept: a seed that nobody checked, or the file of a later
// release after a way back. Nobody may be there to mend it, so mail runs on what
// is understood, and who writes to a domain that is not in that is put off.
func Understood(path string) (config.Config, string) {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nothingUnderstood(config.Config{Hostname: Qualified(host)}), fmt.Sprintf("there is no configuration, and all mail is put off (451): %v", err)
	}
	cfg, left, ok := config.Usable(path, text, Qualified(host), Problems)
	if !ok {
		return nothingUnderstood(cfg), fmt.Sprintf("no domain of the configuration file is understood, and all mail is put off (451); mend it and `weir reload`: %v", left)
	}
	if len(left) == 0 {
		return cfg, "" // what was wrong is not any more
	}
	observe := ""
	if cfg.Observe {
		observe = "nothing is refused by judgement and nobody is banned, "
	}
	return cfg, fmt.Sprintf("the configuration file has mistakes: mail runs by the rest of it, %smail for other domains is put off (451); mend it and `weir reload`: %v", observe, left)
}

// nothingUnderstood is a configuration with a port that answers, and a domain
// that there is not, since one is needed.
func nothingUnderstood(of config.Config) config.Config {
	cfg := config.Default()
	cfg.Hostname, cfg.DNS, cfg.System = of.Hostname, of.DNS, of.System
	if len(cfg.DNS.Servers) == 0 {
		cfg.DNS = config.Default().DNS
	}
	cfg.Observe, cfg.Partial = true, true
	cfg.Backends = []config.Backend{{Name: "none", URL: "maildir:" + filepath.Join(cfg.StateDir, "mail", "maildir"), TLS: "off"}}
	cfg.Domains = []config.Domain{{Name: "nothing.invalid", Backends: []string{"none"}, Recipients: config.Recipients{From: config.FromAny}}}
	return cfg
}

// Unsure are routes when only part of the file is understood: a domain that has
// none is not refused for good, since it may be ours.
type Unsure struct{ smtp.Router }

// Route implements smtp.Router.
func (u Unsure) Route(domain string) (smtp.Route, bool) {
	if r, ok := u.Router.Route(domain); ok {
		return r, true
	}
	return smtp.Route{Name: "unsure", SMTPUTF8: true, Oracle: putOff{}, Deliverer: putOff{}}, true
}

// putOff answers for servers that are not known yet.
type putOff struct{}

// Verify implements smtp.Oracle.
func (putOff) Verify(context.Context, address.Mailbox) smtp.Answer {
	return smtp.Answer{State: smtp.Unavailable, Reason: reply.OracleAway, Reply: reply.OracleAway.Reply()}
}

// Deliver implements smtp.Deliverer.
func (putOff) Deliver(context.Context, smtp.Envelope, io.ReadSeeker) smtp.Receipt {
	return smtp.Receipt{Reason: reply.BackendAway, Reply: reply.BackendAway.Reply(), Detail: "the configuration is understood in part"}
}

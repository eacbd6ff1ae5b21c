package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailweir/record/syslog"
	"mailweir/smtp"
	"mailweir/smtp/reply"
)

// The names of values are the keys of a record, wherever a record has them.

// params collects values; empty ones are absent, as in a record.
type params []syslog.Param

func (p *params) text(name, value string) {
	if value != "" {
		*p = append(*p, syslog.Param{Name: name, Value: value})
	}
}

func (p *params) number(name string, value int64) {
	*p = append(*p, syslog.Param{Name: name, Value: strconv.FormatInt(value, 10)})
}

func (p *params) count(name string, value int64) {
	if value != 0 {
		p.number(name, value)
	}
}

func (p *params) reply(r *reply.Reply) {
	if r == nil {
		return
	}
	p.number("code", int64(r.Code))
	if r.Enhanced != (reply.Enhanced{}) {
		p.text("enhanced", r.Enhanced.String())
	}
	p.text("text", r.Text)
}

func (r *Rcpt) refused() bool { return r.Reply != nil && !r.Reply.Positive() }

// from is the sender, with the null sender and no MAIL told apart.
func (p *params) from(l *Line) {
	if l.MailFrom != nil {
		*p = append(*p, syslog.Param{Name: "mail_from", Value: *l.MailFrom})
	}
}

func transactionEvent(l *Line) *syslog.Message {
	var p params
	p.text("ref", l.Ref)
	p.text("session", l.Session)
	p.text("policy", l.Policy)
	p.text("outcome", string(l.Outcome))
	p.text("reason", string(*l.Reason))
	p.text("alias", l.Alias)
	p.text("peer", addrText(l))
	p.text("country", l.Country)
	p.count("asn", int64(l.ASN))
	p.text("tier", string(l.Tier))
	p.text("helo", l.HELO)
	p.text("tls", l.TLS)
	p.text("slips", strings.Join(l.Slips, ","))
	p.from(l)
	p.number("rcpts", int64(len(l.Rcpts)))
	p.number("refused", int64(refusedRcpts(l)))
	p.count("size", l.Size)
	p.text("message_id", l.MessageID)
	p.text("backend", l.Backend)
	p.text("backend_reply", l.BackendReply)
	p.reply(l.Reply)
	p.text("score", strconv.FormatFloat(*l.Score, 'g', -1, 64))
	p.number("ms", int64(*l.Ms))
	return &syslog.Message{
		Severity: severityOf(l), Time: l.Time.Add(time.Duration(*l.Ms) * time.Millisecond), ID: "TRANSACTION", Params: p,
		Text: strings.TrimSpace(fmt.Sprintf("%s %s", orSession(l.Outcome), *l.Reason)),
	}
}

func addrText(l *Line) string {
	if !l.Peer.IsValid() {
		return ""
	}
	return l.Peer.String()
}

func orSession(o smtp.Outcome) string {
	if o == "" {
		return "session"
	}
	return string(o)
}

func refusedRcpts(l *Line) (n int) {
	for i := range l.Rcpts {
		if l.Rcpts[i].refused() {
			n++
		}
	}
	return n
}

func severityOf(l *Line) syslog.Severity {
	switch {
	case *l.Reason == reply.Internal:
		return syslog.Error
	case l.Outcome == smtp.Rejected, l.Outcome == smtp.Deferred, l.Outcome == smtp.Dropped:
		return syslog.Notice
	}
	return syslog.Info
}

func rcptEvent(l *Line, r *Rcpt) *syslog.Message {
	var p params
	p.text("ref", l.Ref)
	p.text("session", l.Session)
	p.text("reason", string(r.Reason))
	p.text("alias", r.Alias)
	p.text("peer", addrText(l))
	p.from(l)
	p.text("to", r.To)
	p.text("oracle", string(r.Oracle))
	p.text("age", string(r.Age))
	if r.Trap {
		p.text("trap", "true")
	}
	p.reply(r.Reply)
	return &syslog.Message{
		Severity: syslog.Notice, Time: l.Time.Add(time.Duration(r.T) * time.Millisecond), ID: "RCPT", Params: p,
		Text: fmt.Sprintf("recipient refused: %s", r.Reason),
	}
}

func convictionEvent(c *Conviction) *syslog.Message {
	var p params
	p.text("ref", c.Ref.String())
	p.text("reason", string(c.Reason))
	p.text("peer", c.Peer.String())
	p.text("rule", c.Rule)
	p.text("window", c.Window)
	p.number("unknown", int64(c.Unknown))
	p.number("valid", int64(c.Valid))
	p.text("enforced", strconv.FormatBool(c.Enforced))
	p.text("left", string(c.Left))
	return &syslog.Message{
		Severity: syslog.Notice, Time: c.Time.Time, ID: "CONVICTION", Params: p,
		Text: fmt.Sprintf("convicted: %s", c.Reason),
	}
}

func banEvent(id string, b *Ban, now time.Time) *syslog.Message {
	var p params
	p.text("prefix", b.Prefix.String())
	p.text("reason", b.Reason)
	p.text("ref", b.Ref.String())
	if !b.Until.IsZero() {
		p.text("until", b.Until.UTC().Format(timeLayout))
	}
	p.count("step", int64(b.Step))
	p.text("by", b.By)
	p.text("why", b.Why)
	text := "banned"
	if id == "UNBAN" {
		text = "ban lifted"
	}
	if !b.Time.IsZero() {
		now = b.Time
	}
	return &syslog.Message{Severity: syslog.Notice, Time: now, ID: id, Params: p, Text: text + ": " + b.Prefix.String()}
}

func dropEvent(d *Drop) *syslog.Message {
	var p params
	p.text("source", d.Source.String())
	p.text("reason", d.Reason)
	p.text("country", d.Country)
	p.text("engine", d.Engine)
	p.count("port", int64(d.Port))
	p.number("samples", int64(d.Samples))
	p.text("first", d.First.UTC().Format(timeLayout))
	return &syslog.Message{Severity: syslog.Info, Time: d.Last, ID: "DROP", Params: p, Text: "dropped packets of " + d.Source.String() + ": " + d.Reason}
}

func changeEvent(by, what, detail string, now time.Time) *syslog.Message {
	var p params
	p.text("by", by)
	p.text("what", what)
	p.text("detail", detail)
	return &syslog.Message{Severity: syslog.Notice, Time: now, ID: "CHANGE", Params: p, Text: "changed: " + what}
}

func alarmEvent(name, detail string, at time.Time) *syslog.Message {
	var p params
	p.text("alarm", name)
	p.text("detail", detail)
	return &syslog.Message{Severity: syslog.Error, Time: at, ID: "ALARM", Params: p, Text: "alarm: " + name}
}

func clearEvent(a *Alarm, detail string, now time.Time) *syslog.Message {
	var p params
	p.text("alarm", a.Name)
	p.text("detail", detail)
	p.text("since", a.Since.UTC().Format(timeLayout))
	return &syslog.Message{Severity: syslog.Notice, Time: now, ID: "CLEAR", Params: p, Text: "over: " + a.Name}
}

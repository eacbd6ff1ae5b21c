package smtp_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailweir/smtp"
	"mailweir/smtp/check"
	"mailweir/smtp/reply"
)

// offence is how a client comes to fail one check: facts as policy sets them, and
// what it says.
type offence struct {
	facts     string // key=value …
	greetWait time.Duration
	early     string // before the greeting
	helo      string // in place of HELO client.example
	between   string // one line that is refused, behind HELO
	from      string // in place of a@client.example
	history   *smtp.History
	content   bool // found out when the message is here
}

// offences has one for each check that can be set.
var offences = map[string]offence{
	"history":             {history: &smtp.History{Convicted: true}},
	"early_talk":          {greetWait: 10 * time.Second, early: "NOOP\r\n"},
	"pipelining":          {helo: "HELO client.example\r\nNOOP\r\n"},
	"bare_line_ends":      {helo: "HELO client.example\n"},
	"command_order":       {between: "RCPT TO:<alice@office.example>"},
	"geo":                 {facts: "geo_reject=NL"},
	"rdns_missing":        {facts: "rdns=missing"},
	"rdns_error":          {facts: "rdns=error"},
	"rdns_mismatch":       {facts: "rdns=mismatch"},
	"rdns_generic":        {facts: "class=generic"},
	"rdns_generic_cc":     {facts: "class=generic rdns_name=h1.isp.nl"},
	"rdns_dynamic":        {facts: "class=dynamic"},
	"dnsbl":               {facts: "list=127.0.0.2"},
	"rhsbl":               {facts: "rhsbl=127.0.1.2"},
	"helo_ours":           {helo: "HELO mx.example.net\r\n"},
	"helo_address":        {helo: "HELO 192.0.2.1\r\n"},
	"helo_literal":        {helo: "HELO [192.0.2.1]\r\n"},
	"helo_unresolvable":   {facts: "helo_name=missing"},
	"tls_required":        {},
	"sender_nxdomain":     {facts: "sender=nxdomain"},
	"sender_null_mx":      {facts: "sender=nullmx"},
	"sender_no_mx":        {facts: "sender=nomx"},
	"sender_domain_error": {facts: "sender=error"},
	"sender_is_recipient": {from: "alice@office.example"},
	"sender_local":        {from: "bob@office.example", facts: "spf=none"},
	"spf_fail":            {facts: "spf=fail"},
	"spf_softfail":        {facts: "spf=softfail"},
	"spf_temperror":       {facts: "spf=temperror"},
	"spf_permerror":       {facts: "spf=permerror"},
	"dkim_fail":           {facts: "dkim=fail", content: true},
	"dmarc_reject":        {facts: "dmarc=fail:reject", content: true},
	"dmarc_quarantine":    {facts: "dmarc=fail:quarantine", content: true},
	"dmarc_temperror":     {facts: "dmarc=temperror", content: true},
	"no_author":           {facts: "author=none", content: true},
}

// remembering is a watcher that knows one past of everybody.
type remembering struct {
	adviser
	of *smtp.History
}

func (r *remembering) History(time.Time, netip.Addr) *smtp.History { return r.of }

// Every check can be off, log, a score, a deferral or a refusal, for all and for
// one domain: what the client hears, and what the record tells.
func TestEveryCheckCanBeSet(t *testing.T) {
	for _, name := range reply.Settable() {
		o, ok := offences[name]
		if !ok {
			t.Errorf("nobody fails %s here", name)
			continue
		}
		for _, set := range []string{"off", "log", "3", "9", "defer", "reject"} {
			for _, domain := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, set, domain), func(t *testing.T) {
					t.Parallel()
					o.play(t, name, set, domain)
				})
			}
		}
	}
}

// play sets the one check, and all others off; for the domain of office, where
// only that is meant, and then shop takes all mail.
func (o offence) play(t *testing.T, name, text string, domain bool) {
	set, _ := reply.ParseSetting(text)
	w := newWorld(t, func(w *world) {
		w.policy("profile", "")
		for word := range strings.FieldsSeq(o.facts) {
			key, value, _ := strings.Cut(word, "=")
			w.policy(key, value)
		}
		w.opts.Policy.GreetWait = o.greetWait
		if o.history != nil {
			w.opts.Watcher = &remembering{of: o.history}
		}
		for _, other := range reply.Settable() {
			w.checks.Set[other] = reply.Off
		}
		if !domain {
			w.checks.Set[name] = set
		}
		w.opts.Policy.Chain = w.checks.Chain()
		if domain {
			own := w.checks
			own.Set = map[string]reply.Setting{}
			for _, other := range reply.Settable() {
				own.Set[other] = reply.Off
			}
			own.Set[name] = set
			w.opts.Policy.Domains = map[string]smtp.Chain{"office.example": own.Chain()}
		}
	})
	want := wanted(name, set)
	if got := o.say(w, "alice@office.example"); got != want {
		t.Errorf("%s set to %s: the client hears %q, want %q", name, text, got, want)
	}
	o.recorded(t, w.recorder.wait(t, 0), name, set)
	if domain {
		if got := o.say(w, "dave@shop.example"); got != "250" {
			t.Errorf("%s set for one domain: mail of another hears %q", name, got)
		}
	}
}

// wanted is the code that a client hears in the end.
func wanted(name string, set reply.Setting) string {
	r := reply.Reason(name).Reply()
	switch {
	case set.Do == reply.Defer || set.Do == reply.Reject && r.Transient():
		r = r.Later()
	case set.Do == reply.Reject, set.Do == reply.Pass && set.Score >= check.DefaultRejectScore:
	default:
		return "250"
	}
	return fmt.Sprintf("%d", r.Code)
}

// say has one mail to somebody, and returns the code of the first refusal, or of
// the reply to the message.
func (o offence) say(w *world, to string) string {
	c := w.dial("127.0.0.1")
	defer c.nc.Close()
	c.send(o.early)
	if line, refused := c.reply(); refused {
		return line
	}
	helo, from := o.helo, o.from
	if helo == "" {
		helo = "HELO client.example\r\n"
	}
	if from == "" {
		from = "a@client.example"
	}
	lines := []string{helo}
	for range strings.Count(o.early, "\r\n") + strings.Count(helo, "\n") - 1 {
		lines = append(lines, "")
	}
	if o.between != "" {
		lines = append(lines, o.between+"\r\n")
	}
	for i, line := range append(lines, "MAIL FROM:<"+from+">\r\n", "RCPT TO:<"+to+">\r\n", "DATA\r\n", "From: a@client.example\r\n\r\nx\r\n.\r\n") {
		c.send(line)
		code, refused := c.reply()
		if refused && !(o.between != "" && i == len(lines)-1) {
			return code
		}
	}
	return "250"
}

// reply reads one reply and says whether it refuses.
func (c *dialogue) reply() (code string, refused bool) {
	c.t.Helper()
	for {
		s, err := c.line()
		if err != nil {
			c.t.Fatalf("no reply: %v", err)
		}
		if len(s) > 3 && s[3] != '-' {
			return s[:3], s[0] > '3'
		}
	}
}

// recorded wants the check in the record with what was done.
func (o offence) recorded(t *testing.T, r smtp.Transaction, name string, set reply.Setting) {
	i := slices.IndexFunc(r.Checks, func(c smtp.Check) bool { return c.Name == name && c.Action != reply.Pass || c.Score != 0 })
	switch {
	case set == reply.Off && i >= 0:
		t.Errorf("%s is off, and the record has %+v", name, r.Checks[i])
	case set != reply.Off && i < 0:
		t.Errorf("%s: no word in the record %+v", name, r.Checks)
	case set == reply.LogOnly && r.Checks[i].Action != reply.Log:
		t.Errorf("%s is logged as %+v", name, r.Checks[i])
	case set.Do == reply.Pass && r.Score != set.Score && r.Facts.HELO != "": // else it was said in place of the greeting
		t.Errorf("%s: the score is %v, want %v", name, r.Score, set.Score)
	}
}

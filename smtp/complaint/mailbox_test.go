package complaint

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/reply"
)

// office is a domain's route: it knows some mailboxes, and keeps what comes.
type office struct {
	knows []string
	away  bool
	got   []smtp.Envelope
	text  string
	say   reply.Reply
}

func (o *office) Route(domain string) (smtp.Route, bool) {
	return smtp.Route{Name: "office", Oracle: o, Deliverer: o}, domain == "example.com" || domain == "example.org"
}

func (o *office) Verify(_ context.Context, to address.Mailbox) smtp.Answer {
	switch {
	case o.away:
		return smtp.Answer{State: smtp.Unavailable}
	case slices.Contains(o.knows, to.String()):
		return smtp.Answer{State: smtp.Valid, Age: smtp.Live}
	}
	return smtp.Answer{State: smtp.Unknown, Age: smtp.Live}
}

func (o *office) Deliver(_ context.Context, env smtp.Envelope, body io.ReadSeeker) smtp.Receipt {
	b, _ := io.ReadAll(body)
	o.got, o.text = append(o.got, env), string(b)
	if o.say.Code != 0 {
		return smtp.Receipt{Reply: o.say}
	}
	return smtp.Receipt{Reply: reply.Reply{Code: 250}, Backend: "office"}
}

var (
	box  = address.Mailbox{Local: "Complaints", Domain: "example.com"}
	jane = address.Mailbox{Local: "jane", Domain: "example.com"}
)

// sent is what becomes of a message to some mailboxes, after each was asked for.
func sent(t *testing.T, o *office, message string, to ...address.Mailbox) (r smtp.Receipt, states []smtp.OracleState, taken int) {
	t.Helper()
	m := NewMailbox(address.Mailbox{Local: "complaints", Domain: "example.com"}, o,
		func(context.Context, smtp.Envelope, Report) string { taken++; return "seen" })
	route, ok := m.Route("example.com")
	if !ok {
		t.Fatal("no route")
	}
	for _, a := range to {
		states = append(states, route.Oracle.Verify(t.Context(), a).State)
	}
	return route.Deliverer.Deliver(t.Context(), smtp.Envelope{To: to}, bytes.NewReader([]byte(message))), states, taken
}

func TestMailbox(t *testing.T) {
	arf := report(abuse, "Content-Type: message/rfc822", field(id, key.Seal(id))+spam)
	const mail = "Subject: hello\r\n\r\nhello\r\n"
	for name, c := range map[string]struct {
		office  office
		message string
		to      []address.Mailbox
		code    int
		states  string
		onward  int // recipients that the backend gets
		taken   int
	}{
		"a report ends here":                    {office{}, arf, []address.Mailbox{box}, 250, "valid", 0, 1},
		"or goes on where the backend knows it": {office{knows: []string{"Complaints@example.com"}}, arf, []address.Mailbox{box}, 250, "valid", 1, 1},
		"mail that nobody would see is refused": {office{}, mail, []address.Mailbox{box}, 554, "valid", 0, 0},
		"mail goes on":                          {office{knows: []string{"Complaints@example.com"}}, mail, []address.Mailbox{box}, 250, "valid", 1, 0},
		"with others":                           {office{knows: []string{"jane@example.com"}}, arf, []address.Mailbox{jane, box}, 250, "valid valid", 1, 1},
		"mail for others too reaches them":      {office{knows: []string{"jane@example.com"}}, mail, []address.Mailbox{jane, box}, 250, "valid valid", 1, 0},
		"to others only":                        {office{knows: []string{"jane@example.com"}}, arf, []address.Mailbox{jane}, 250, "valid", 1, 0},
		"unknown users stay unknown":            {office{}, arf, []address.Mailbox{jane}, 250, "unknown", 1, 0},
		"nobody can be asked":                   {office{away: true}, arf, []address.Mailbox{box}, 250, "unavailable", 1, 1},
		"refused behind: it comes again": {office{knows: []string{"Complaints@example.com"}, say: reply.BackendAway.Reply()}, arf,
			[]address.Mailbox{box}, 451, "valid", 1, 0},
	} {
		r, states, taken := sent(t, &c.office, c.message, c.to...)
		var said []string
		for _, s := range states {
			said = append(said, string(s))
		}
		onward := 0
		for _, e := range c.office.got {
			onward += len(e.To)
		}
		if r.Reply.Code != c.code || strings.Join(said, " ") != c.states || onward != c.onward || taken != c.taken {
			t.Errorf("%s: %d, %q, %d onward, %d taken", name, r.Reply.Code, said, onward, taken)
		}
		if onward > 0 && c.office.text != c.message {
			t.Errorf("%s: the backend got %q", name, c.office.text)
		}
		if (r.Complaint != "") != (r.Reply.Code == 250 && slices.Contains(c.to, box)) {
			t.Errorf("%s: the record says %q", name, r.Complaint)
		}
	}
}

// The mailbox stands in one domain only.
func TestMailboxOfOtherDomain(t *testing.T) {
	o := &office{}
	m := NewMailbox(box, o, nil)
	r, ok := m.Route("example.org")
	if !ok || r.Oracle != smtp.Oracle(o) || r.Deliverer != smtp.Deliverer(o) {
		t.Error("another domain's route is changed")
	}
	if _, ok := m.Route("example.net"); ok {
		t.Error("a foreign domain has a route")
	}
}

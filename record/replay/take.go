package replay

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dchest/siphash"

	"mailweir/record"
	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// take is a line made ready to be played: the facts that matter, what became of
// the transaction, and what the judges say of it now. There may be millions.
type take struct {
	name   string // the ref as written
	time   time.Time
	took   time.Duration
	told   moments
	source smtp.Source
	null   bool // the null sender
	rcpts  []rcpt

	arrives smtp.Verdict   // on the address alone; one that drops bans
	sender  reply.Reason   // why MAIL is refused now
	message reply.Reason   // why the message is refused now
	later   []reply.Reason // of these, and of the recipients', put off by policy
	taken   int            // recipients that were accepted then

	was    Result
	silent bool // nothing was said to the client: it may as well have been dropped
	gone   bool // dropped
	closed bool
	// brought says that some recipient was refused for what the source brought.
	brought bool
	result  Result
}

// moments are when harvest was told of the beginning and the end of a
// transaction; zero: it was not, or that is not known.
type moments struct {
	begin, end time.Time
	known      bool
}

// begins is when the transaction is played first.
func (t *take) begins() time.Time {
	if t.told.begin.IsZero() {
		return t.time
	}
	return t.told.begin
}

// rcpt is one recipient.
type rcpt struct {
	at     time.Duration
	told   time.Time // zero: not known
	to     string
	oracle smtp.OracleState
	age    smtp.Age
	trap   bool
	reason reply.Reason // why it is refused now; "": it is not
	canary smtp.OracleState
	sang   *smtp.Directory // of its domain, by a canary
	grey   *grey           // nil: the greylist is not asked
	itself bool            // refused for what the source is
}

// grey is what the greylist is asked about a recipient that everybody else
// takes, and what the line has of its answer then.
type grey struct {
	terms   greylist.Terms
	contact greylist.Contact
	then    *smtp.Grey
	observe bool // the recipient's domain only observes
}

func (t *take) end() time.Time { return t.time.Add(t.took) }

// take makes a line ready.
func (p *Player) take(l *record.Line) *take {
	tx := l.Transaction()
	f := &tx.Facts
	t := &take{
		name: l.Ref, time: l.Time.Time.UTC(), null: f.MailFrom != nil && *f.MailFrom == "",
		source: smtp.Source{
			Addr: l.Peer.Unmap(), ASN: l.ASN, HELO: l.HELO, Ref: identity(l.Ref), Session: identity(l.Session),
			Vouched: f.Vouched(), Nameless: f.Nameless(),
		},
	}
	if l.Order != nil {
		t.told = moments{tx.Facts.Told, tx.Told, true}
	}
	if l.Ms != nil {
		t.took = max(0, time.Duration(*l.Ms)*time.Millisecond)
	}
	if f.Tier = p.tier(l, f); !l.Peer.IsValid() { // nobody can be said to have done it
		f.Tier = smtp.Protected
		p.sum.MissingFacts++
	}
	t.source.Tier = f.Tier
	t.was = became(l)
	t.silent = l.Reply == nil && l.HELO == "" && l.MailFrom == nil && len(l.Rcpts) == 0
	p.judge(t, l, f)
	return t
}

// tier is what is said of a source before its history: the operator's word, and
// that of the checks that look at its address.
func (p *Player) tier(l *record.Line, f *smtp.Facts) smtp.Tier {
	f.Tier = smtp.New
	if p.o.Tier != nil {
		f.Tier = p.o.Tier(l.Peer)
	}
	if slices.ContainsFunc(f.Rcpts, func(r smtp.Recipient) bool {
		return r.Allowed() && r.Listed.Subject.Kind == access.Address && r.Listed.To == ""
	}) {
		f.Tier = smtp.Protected
	}
	if f.Tier == smtp.New && f.Provider != "" {
		f.Tier = smtp.Provider
	}
	if f.Tier == smtp.New && (p.o.Chain.Suspects(f) || listed(l) >= smtp.SuspectScore) {
		return smtp.Suspect
	}
	return f.Tier
}

// listed is the score that the DNS lists had then: lists that are not in the
// file any more still tell who came.
func listed(l *record.Line) (score float64) {
	for _, b := range l.Lists {
		score += b.Score
	}
	return score
}

// identity makes a number of a ref of whatever maker.
func identity(s string) ref.Ref {
	if s == "" {
		return 0
	}
	if r, err := ref.Parse(s); err == nil {
		return r
	}
	return ref.Ref(siphash.Hash(0, 0, []byte(s)) | 1)
}

// judge has the judges say what they say of the facts.
func (p *Player) judge(t *take, l *record.Line, f *smtp.Facts) {
	rcpts, size := f.Rcpts, f.Size
	f.Rcpts, f.Size = nil, 0 // neither was there yet
	f.Limit = p.limit(f.Limit, rcpts)
	t.arrives = p.o.Chain.Arrives(f)
	if f.MailFrom != nil {
		t.sender = refusal(p.o.Chain.Mail, f)
	}
	for i := range rcpts {
		f.Rcpts = rcpts[:i+1]
		r := &rcpts[i]
		if whyRefused(r) == "" {
			t.taken++
		}
		why, itself := p.judgeRecipient(t, f, r)
		t.brought = t.brought || why != "" && !itself
		t.rcpts = append(t.rcpts, rcpt{
			at: max(0, r.At), told: r.Told, to: strings.Clone(r.To), oracle: r.Oracle, age: r.Age, canary: r.Canary, sang: r.Directory, trap: r.Trap, reason: why, grey: p.grey(f, why), itself: itself,
		})
		r.Reason = why // what later judges see of it
	}
	f.Size = size
	if t.taken > 0 {
		t.message = cmp.Or(refusal(p.o.Chain.Data, f), p.judgeContent(t, f, rcpts))
	}
	if t.was == (Result{smtp.Rejected, reply.MessageRefused}) && l.BackendReply == "" && t.message != "" {
		t.was.Reason = t.message // it was us who refused it, and for this
	}
	if t.was.Reason == "" && t.sender != "" && t.was.Outcome == t.refused(t.sender).Outcome {
		t.was.Reason = t.sender // in words of their own
	}
}

// judgeContent is why a message is refused for what it says, by the judges of
// policy: the mildest word of those that its deciding recipients are judged by.
func (p *Player) judgeContent(t *take, f *smtp.Facts, rcpts []smtp.Recipient) (why reply.Reason) {
	defer func() { f.Rcpts = rcpts }()
	for _, i := range smtp.Deciding(rcpts) {
		f.Rcpts = rcpts[:i+1]
		c := p.chain(rcpts[i].To)
		now := p.weighed(t, c, f, c.Peer, c.HELO, c.Sender, c.Content)
		switch {
		case now == "":
			return ""
		case why == "" || t.refused(now).later():
			why = now
		}
	}
	return why
}

// limit is the size that a message to these recipients may have.
func (p *Player) limit(recorded int64, rcpts []smtp.Recipient) int64 {
	if p.o.Limit == nil {
		return recorded
	}
	least := p.o.Limit("")
	for i := range rcpts {
		least = min(least, p.o.Limit(domainOf(rcpts[i].To)))
	}
	return least
}

func domainOf(mailbox string) string {
	return strings.ToLower(mailbox[strings.LastIndexByte(mailbox, '@')+1:])
}

// judgeRecipient is why the last recipient of f is refused; "": it is not. itself:
// whatever the source brings.
func (p *Player) judgeRecipient(t *take, f *smtp.Facts, r *smtp.Recipient) (why reply.Reason, itself bool) {
	was := whyRefused(r)
	r.Trap = r.Trap || p.o.Trap != nil && p.o.Trap(r.To)
	r.Route = p.route(r, was)
	if _, listed := judged[was]; was != "" && !listed {
		return was, !r.OfSender() // by a check that looks at what no line has: it stands
	}
	c := p.chain(r.To)
	if aboutOracle[was] {
		r.Answer = smtp.Answer{State: r.Oracle, Age: r.Age, Reply: r.Reply, Reason: was}
	}
	if r.Trap {
		return reply.Trap, false
	}
	if why := refusal(p.o.Chain.Rcpt, f); why != "" {
		return why, false
	}
	if why := p.weighed(t, c, f, c.Peer, c.HELO); why != "" {
		return why, true
	}
	if r.Oracle == "" {
		if was == "" {
			return p.weighed(t, c, f, c.Peer, c.HELO, c.Sender), false
		}
		p.sum.MissingFacts++ // nobody asked the oracle, since it was refused before
		return was, !r.OfSender()
	}
	if why := refusal(p.o.Chain.Oracle, f); why != "" {
		return why, false
	}
	return p.weighed(t, c, f, c.Peer, c.HELO, c.Sender), false
}

// grey is what the greylist is to be asked about the last recipient of f; nil:
// nothing, whoever the source turns out to be.
func (p *Player) grey(f *smtp.Facts, why reply.Reason) *grey {
	r := &f.Rcpts[len(f.Rcpts)-1]
	c := p.chain(r.To)
	if why != "" || c.Greylist == nil {
		return nil
	}
	terms, asks := c.Greylist.Asks(f, c.Weigh(f, c.Peer, c.HELO, c.Sender).Score)
	if !asks {
		return nil
	}
	return &grey{terms, f.Contact(), r.Grey, c.Observe}
}

// chain is what a recipient is judged by.
func (p *Player) chain(to string) *smtp.Chain {
	if c, ok := p.o.Domains[domainOf(to)]; ok {
		return &c
	}
	return &p.o.Chain
}

// weighed is the reason of what the judges of policy come to; what they refuse
// is spoken to everybody but postmaster.
func (p *Player) weighed(t *take, c *smtp.Chain, f *smtp.Facts, stages ...[]smtp.Link) reply.Reason {
	v := c.Weigh(f, stages...).Verdict
	if v.Action == reply.Pass || v.Action == reply.Log || (p.o.Observe || c.Observe) && v.Reason.Spared() || f.Spared() {
		return ""
	}
	if v.Action == reply.Defer && !t.refused(v.Reason).later() {
		t.later = append(t.later, v.Reason)
	}
	return v.Reason
}

// whyRefused is why a recipient was refused: by its reason, or else by its
// reply, or else by what the oracle said.
func whyRefused(r *smtp.Recipient) reply.Reason {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.Reply.Code != 0 && r.Reply.Positive():
		return ""
	case r.Reply.Code != 0 && saidFor(r.Reply) != "":
		return saidFor(r.Reply)
	case r.Oracle == smtp.Unknown || r.Trap:
		return reply.UnknownUser
	case r.Oracle == smtp.Unavailable:
		return reply.OracleAway
	case r.Reply.Code != 0 && r.Reply.Transient():
		return reply.OracleAway
	case strings.Contains(strings.ToLower(r.Reply.Text), "relay"):
		return reply.Relaying
	case r.Reply.Code != 0:
		return unnamed
	}
	return ""
}

// saidFor is the first reason in whose words of the table a reply was; "": in
// those of none.
func saidFor(r reply.Reply) reply.Reason {
	for _, row := range words {
		for _, said := range []reply.Reply{row.Reply, row.Reply.Later()} { // set to defer
			if said.Code == r.Code && said.Enhanced == r.Enhanced && strings.HasPrefix(r.Text, said.Text) {
				return row.Reason
			}
		}
	}
	return ""
}

var words = reply.Table()

// unnamed is why a recipient was refused in words that are not of the table.
const unnamed reply.Reason = "refused"

// route is the name of a recipient's route, as far as a judge looks at it.
func (p *Player) route(r *smtp.Recipient, was reply.Reason) string {
	served := r.Route != "" || was != reply.Relaying
	if p.o.Served != nil {
		served = p.o.Served(domainOf(r.To))
	}
	switch {
	case !served:
		return ""
	case r.Route != "":
		return r.Route
	}
	return "unnamed"
}

// judged are the reasons that are judged again; any other stands as it was.
var judged = func() map[reply.Reason]struct{} {
	m := map[reply.Reason]struct{}{}
	for _, r := range []reply.Reason{
		reply.RecipientSyntax, reply.UnqualifiedRecipient, reply.UTF8, reply.Relaying, reply.UnknownUser,
		reply.Harvest, reply.Trap, reply.Persistence, reply.Complaint, reply.RelayProbe, reply.TooManyUnknown,
		reply.UnderAttack, reply.Greylisted, reply.TooManyRecipients, reply.OtherRoute, reply.BounceRecipients, reply.Size,
		reply.OracleAway, reply.RecipientForNow, reply.MailboxDisabled, reply.MisconfiguredBackend, reply.MessageRefused,
	} {
		m[r] = struct{}{}
	}
	for _, row := range reply.Table() {
		if row.Settable {
			m[row.Reason] = struct{}{}
		}
	}
	return m
}()

// aboutOracle are the reasons that come from what the oracle heard.
var aboutOracle = map[reply.Reason]bool{
	reply.OracleAway: true, reply.RecipientForNow: true, reply.MailboxDisabled: true,
	reply.MisconfiguredBackend: true, reply.MessageRefused: true,
}

// refusal is the reason of the first judge that refuses.
func refusal(links []smtp.Link, f *smtp.Facts) reply.Reason {
	for _, l := range links {
		switch v := l.Judge.Judge(f); v.Action {
		case reply.Pass, reply.Log, "":
		default:
			return v.Reason
		}
	}
	return ""
}

// became is what became of a transaction, read off the replies that were
// written.
func became(l *record.Line) Result {
	accepted := 0
	var worst Result
	for i := range l.Rcpts {
		r := l.Rcpts[i]
		why := whyOf(&r)
		if why == "" {
			accepted++
			continue
		}
		if convicts[why] {
			return Result{smtp.Dropped, why}
		}
		res := refusedFor(why)
		if r.Reply != nil && r.Reply.Transient() {
			res.Outcome = smtp.Deferred
		}
		if worst.Outcome == "" || worst.Outcome == smtp.Deferred && res.Outcome == smtp.Rejected {
			worst = res
		}
	}
	switch {
	case accepted == 0 && worst.Outcome != "":
		return worst
	case accepted == 0 && l.Reply != nil:
		return bySaid(l.Reply.Code, saidFor(*l.Reply))
	case accepted > 0 && l.Reply != nil && !l.Reply.Positive() && l.BackendReply == "" && saidFor(*l.Reply) != "":
		return bySaid(l.Reply.Code, saidFor(*l.Reply))
	case accepted > 0 && l.Reply != nil && !l.Reply.Positive():
		return bySaid(l.Reply.Code, reply.MessageRefused)
	case accepted > 0 && l.BackendReply != "":
		return bySaid(codeIn(l.BackendReply), reply.MessageRefused)
	case accepted > 0 && (l.Size > 0 || l.MessageID != ""):
		return Result{smtp.Accepted, ""}
	}
	return Result{smtp.Aborted, ""}
}

func whyOf(r *record.Rcpt) reply.Reason {
	s := smtp.Recipient{Reason: r.Reason, Oracle: r.Oracle, Trap: r.Trap}
	if r.Reply != nil {
		s.Reply = *r.Reply
	}
	return whyRefused(&s)
}

// convicts are the reasons of a recipient whose answer was the last.
var convicts = map[reply.Reason]bool{
	reply.Harvest: true, reply.Persistence: true, reply.Complaint: true, reply.RelayProbe: true,
}

// bySaid is the result of a reply to a message or to the connection.
func bySaid(code int, why reply.Reason) Result {
	switch {
	case code >= 500:
		return Result{smtp.Rejected, why}
	case code >= 400 && why == reply.MessageRefused:
		return Result{smtp.Deferred, reply.BackendAway}
	case code >= 400:
		return Result{smtp.Deferred, why}
	}
	return Result{smtp.Accepted, ""}
}

// codeIn is the reply code in what a backend said, which may have the backend's
// name before it; what has none is of a delivery that knows no codes, such as a
// maildir, and good.
func codeIn(s string) int {
	for word := range strings.FieldsSeq(s) {
		if code, err := strconv.Atoi(word); err == nil && len(word) == 3 && code >= 200 && code < 600 {
			return code
		}
	}
	return 250
}

package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// Version is the "v" of the lines that this release writes.
const Version = 1

// Line is a record as people and programs outside see it: one JSON object on
// one line. The keys are a contract: added, never renamed. A pointer is nil,
// and any other optional field zero, where the key is absent; an absent key
// was not gathered. Keys that this release does not know stay in Extra, so
// that a line which passes through loses nothing.
type Line struct {
	V       int     `json:"v"`
	Ref     string  `json:"ref"`
	Session string  `json:"session,omitempty"`
	Node    string  `json:"node,omitempty"`
	Policy  string  `json:"policy,omitempty"`
	Time    Time    `json:"time"`
	Ms      *Millis `json:"ms,omitempty"`
	Order   *Order  `json:"order,omitempty"`

	Peer     netip.Addr     `json:"peer,omitzero"`
	Listener netip.AddrPort `json:"listener,omitzero"`
	Country  string         `json:"country,omitempty"`
	ASN      uint32         `json:"asn,omitempty"`
	Tier     smtp.Tier      `json:"tier,omitempty"`
	Provider string         `json:"provider,omitempty"` // whose set of networks has the peer
	History  *smtp.History  `json:"history,omitempty"`  // what was remembered of it
	RDNS     *RDNS          `json:"rdns,omitempty"`
	HELO     string         `json:"helo,omitempty"`
	HELOName smtp.HELOName  `json:"helo_name,omitempty"` // what HELO resolves to
	TLS      string         `json:"tls,omitempty"`
	Slips    []string       `json:"slips,omitempty"`
	Lists    []Listing      `json:"lists,omitempty"`

	MailFrom     *string           `json:"mail_from,omitempty"` // "": the null sender; nil: no MAIL
	MailForm     smtp.Form         `json:"mail_form,omitempty"`
	Declared     int64             `json:"declared,omitempty"` // SIZE= of MAIL
	Limit        int64             `json:"limit,omitempty"`    // bytes that policy and routes allowed
	SenderDomain smtp.SenderDomain `json:"sender_domain,omitempty"`
	SPF          string            `json:"spf,omitempty"`
	SPFWide      bool              `json:"spf_wide,omitempty"`     // it passes for a neighbour too, and vouches for nobody
	DKIM         []string          `json:"dkim,omitempty"`         // results, a signature each
	DKIMDomain   []string          `json:"dkim_domain,omitempty"`  // the same signatures' domains
	DKIMUnread   int               `json:"dkim_unread,omitempty"`  // signatures besides that were not looked at
	Author       string            `json:"author,omitempty"`       // domain of the From field
	DMARC        string            `json:"dmarc,omitempty"`        // result
	DMARCPolicy  string            `json:"dmarc_policy,omitempty"` // what the author's domain wants
	Rcpts        []Rcpt            `json:"rcpts,omitempty"`

	Greylist     string `json:"greylist,omitempty"`
	Size         int64  `json:"size,omitempty"`
	Hops         int    `json:"hops,omitempty"` // Received headers that it came with
	MessageID    string `json:"message_id,omitempty"`
	Backend      string `json:"backend,omitempty"`
	BackendReply string `json:"backend_reply,omitempty"`

	Checks  []smtp.Check  `json:"checks,omitempty"`
	Score   *float64      `json:"score,omitempty"`
	Outcome smtp.Outcome  `json:"outcome,omitempty"` // absent: not known when this was written
	Reason  *reply.Reason `json:"reason,omitempty"`
	Alias   string        `json:"alias,omitempty"` // spamdyke's word for the reason
	Reply   *reply.Reply  `json:"reply,omitempty"` // the one that decided, as written to the wire

	Extra map[string]json.RawMessage `json:"-"`
}

// RDNS is what reverse DNS said of the peer.
type RDNS struct {
	Name    string         `json:"name,omitempty"`
	State   smtp.RDNSState `json:"state"`
	Class   string         `json:"class,omitempty"`
	Pattern string         `json:"pattern,omitempty"` // what the class was told by
}

// Listing is one DNS list's answer.
type Listing struct {
	Name   string  `json:"name"`
	About  string  `json:"about,omitempty"` // the domain that is listed; absent: the peer
	Answer string  `json:"answer"`
	Score  float64 `json:"score"`
	Text   string  `json:"text,omitempty"` // the list's own words
}

// Rcpt is one RCPT command and what became of it.
type Rcpt struct {
	T         Millis           `json:"t"`               // since Line.Time
	Order     *Micros          `json:"order,omitempty"` // as Order, of the command
	To        string           `json:"to"`
	Form      smtp.Form        `json:"form,omitempty"`
	Route     string           `json:"route,omitempty"`
	Oracle    smtp.OracleState `json:"oracle,omitempty"`
	Age       smtp.Age         `json:"age,omitempty"`
	Canary    smtp.OracleState `json:"canary,omitempty"` // of a known recipient, where a conviction was overturned by it
	Directory *Directory       `json:"directory,omitempty"`
	Trap      bool             `json:"trap"`
	Listed    *access.Entry    `json:"listed,omitempty"` // the operator's word
	Grey      *Grey            `json:"greylist,omitempty"`
	Reply     *reply.Reply     `json:"reply,omitempty"` // as written to the wire; nil: none was
	Reason    reply.Reason     `json:"reason"`
	Alias     string           `json:"alias,omitempty"`
}

// Directory is what a canary said of the directory of a recipient's domain, since
// the recipient of that domain before.
type Directory struct {
	Said smtp.OracleState `json:"said"` // of a recipient whom it is known to have
	At   Time             `json:"at"`
}

func newDirectory(d *smtp.Directory) *Directory {
	if d == nil {
		return nil
	}
	return &Directory{d.Said, Time{d.At}}
}

// Grey is what the greylist said of a recipient.
type Grey struct {
	State greylist.State `json:"state"`
	Since Time           `json:"since,omitzero"` // the first contact
	Left  int64          `json:"left"`           // ms until a retry passes
}

// Order is when harvest was told of the beginning of a session, with the first
// transaction of it, and of the end of a transaction. No two things that one
// process told it have the same moment, and a replay tells it in this order.
// nil: it was not told.
type Order struct {
	Begin *Micros `json:"begin,omitempty"`
	End   *Micros `json:"end,omitempty"`
}

// Micros is a number of microseconds since Line.Time.
type Micros int64

// micros is nil where there is no moment.
func micros(at, from time.Time) *Micros {
	if at.IsZero() {
		return nil
	}
	return new(Micros(at.Sub(from.Truncate(time.Millisecond)).Microseconds()))
}

// after is the moment of m, the zero Time for none.
func (m *Micros) after(from time.Time) time.Time {
	if m == nil {
		return time.Time{}
	}
	return from.Add(time.Duration(*m) * time.Microsecond)
}

func newOrder(t *smtp.Transaction) *Order {
	if t.Facts.Told.IsZero() && t.Told.IsZero() {
		return nil
	}
	return &Order{micros(t.Facts.Told, t.Facts.Time), micros(t.Told, t.Facts.Time)}
}

// Millis is a number of milliseconds, of which records have whole ones.
type Millis int64

// UnmarshalJSON reads any number, and rounds it: not every maker of records
// counts in whole milliseconds.
func (m *Millis) UnmarshalJSON(b []byte) error {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*m = Millis(n)
		return nil
	}
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("read milliseconds %s: %w", b, err)
	}
	*m = Millis(math.Round(f))
	return nil
}

func millis(d time.Duration) Millis { return Millis(d.Milliseconds()) }

// Time is a moment as records write it: RFC 3339, UTC, milliseconds.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes t in the contract's form.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"` + timeLayout + `"`)), nil
}

// UnmarshalJSON reads any RFC 3339 time with a year that can be written back.
func (t *Time) UnmarshalJSON(b []byte) error {
	if err := t.Time.UnmarshalJSON(b); err != nil {
		return fmt.Errorf("read time %s: %w", b, err)
	}
	if y := t.UTC().Year(); y < 1970 || y > 2200 {
		return fmt.Errorf("read time %s: the year is outside 1970 to 2200", b)
	}
	return nil
}

// NewLine writes down a transaction; node is this machine's name.
func NewLine(t *smtp.Transaction, node string) Line {
	f := &t.Facts
	l := Line{
		V: Version, Ref: f.Ref.String(), Session: f.Session.String(), Node: node, Policy: f.Policy,
		Time: Time{f.Time}, Ms: new(millis(t.Took)), Order: newOrder(t),
		Peer: f.Peer.Unmap(), Listener: f.Listener, Country: f.Country, ASN: f.ASN, Tier: f.Tier, Provider: f.Provider, History: f.History,
		RDNS: newRDNS(f.RDNS), HELO: f.HELO, HELOName: f.HELOName, TLS: f.TLS, Slips: f.Slips, Lists: newLists(f.Lists),
		MailFrom: f.MailFrom, MailForm: f.MailForm, Declared: f.Declared, Limit: f.Limit,
		SenderDomain: f.Sender, SPF: f.SPF, SPFWide: f.SPFWide, Rcpts: newRcpts(f.Rcpts, f.Time), Greylist: string(greyed(f.Rcpts)),
		Size: f.Size, Hops: f.Hops, MessageID: f.MessageID, Backend: f.Backend, BackendReply: f.BackendReply,
		Checks: t.Checks, Score: new(t.Score), Outcome: t.Outcome, Reason: new(t.Reason), Alias: t.Reason.Alias(),
		Reply: written(t.Reply),
	}
	l.Author, l.DMARC, l.DMARCPolicy, l.DKIMUnread = f.Author, f.DMARC, f.DMARCPolicy, f.Unread
	for _, s := range f.DKIM {
		l.DKIM, l.DKIMDomain = append(l.DKIM, s.Result), append(l.DKIMDomain, s.Domain)
	}
	return l
}

// authentication is the inverse. A line of other makers has no domains.
func (l *Line) authentication() smtp.Authentication {
	a := smtp.Authentication{Unread: l.DKIMUnread, Author: l.Author, DMARC: l.DMARC, DMARCPolicy: l.DMARCPolicy}
	for i, result := range l.DKIM {
		s := smtp.Signature{Result: result}
		if i < len(l.DKIMDomain) {
			s.Domain = l.DKIMDomain[i]
		}
		a.DKIM = append(a.DKIM, s)
	}
	return a
}

func newRDNS(r *smtp.RDNS) *RDNS {
	if r == nil {
		return nil
	}
	return &RDNS{r.Name, r.State, r.Class, r.Pattern}
}

func (r *RDNS) fact() *smtp.RDNS {
	if r == nil {
		return nil
	}
	return &smtp.RDNS{Name: r.Name, State: r.State, Class: r.Class, Pattern: r.Pattern}
}

func newLists(from []smtp.Listing) (to []Listing) {
	for _, b := range from {
		to = append(to, Listing(b))
	}
	return to
}

func newRcpts(from []smtp.Recipient, began time.Time) []Rcpt {
	var to []Rcpt
	for i := range from {
		r := &from[i]
		to = append(to, Rcpt{
			T: millis(r.At), Order: micros(r.Told, began), To: r.To, Form: r.Form, Route: r.Route, Oracle: r.Oracle, Age: r.Age, Canary: r.Canary,
			Directory: newDirectory(r.Directory), Trap: r.Trap, Listed: r.Listed, Grey: newGrey(r.Grey), Reply: written(r.Reply), Reason: r.Reason, Alias: r.Reason.Alias(),
		})
	}
	return to
}

func newGrey(g *smtp.Grey) *Grey {
	if g == nil {
		return nil
	}
	return &Grey{g.State, Time{g.Since}, g.Left.Milliseconds()}
}

// greyed is what the greylist said of the transaction: that somebody has to come
// back, if it said so of any recipient; "" where it was not asked.
func greyed(rcpts []smtp.Recipient) (state greylist.State) {
	for i := range rcpts {
		switch g := rcpts[i].Grey; {
		case g == nil:
		case g.State == greylist.First || g.State == greylist.Early:
			return g.State
		case state == "":
			state = g.State
		}
	}
	return state
}

// written is nil for a reply that was none.
func written(r reply.Reply) *reply.Reply {
	if r.Code == 0 {
		return nil
	}
	return &r
}

// Transaction is the inverse of NewLine, as far as the line has the facts.
// Refs of other makers, or with a wrong check character, become the zero Ref;
// Line.Ref has the text.
func (l *Line) Transaction() smtp.Transaction {
	t := smtp.Transaction{
		Facts: smtp.Facts{
			Ref: lenientRef(l.Ref), Session: lenientRef(l.Session), Time: l.Time.Time,
			Peer: l.Peer, Listener: l.Listener, Country: l.Country, ASN: l.ASN, Tier: l.Tier, Provider: l.Provider, History: l.History,
			RDNS: l.RDNS.fact(), HELO: l.HELO, HELOName: l.HELOName, TLS: l.TLS, Slips: l.Slips, Policy: l.Policy,
			Sender: l.SenderDomain, SPF: l.SPF, SPFWide: l.SPFWide, Authentication: l.authentication(),
			MailFrom: l.MailFrom, MailForm: l.MailForm, Declared: l.Declared, Limit: l.Limit,
			Size: l.Size, Hops: l.Hops, MessageID: l.MessageID, Backend: l.Backend, BackendReply: l.BackendReply,
		},
		Checks: l.Checks, Outcome: l.Outcome,
	}
	for _, b := range l.Lists {
		t.Facts.Lists = append(t.Facts.Lists, smtp.Listing(b))
	}
	for i := range l.Rcpts {
		r := l.Rcpts[i].recipient(l.Time.Time)
		if r.Grey == nil && l.Greylist != "" && greyedNone(l.Rcpts) { // told of the transaction only
			r.Grey = &smtp.Grey{State: greylist.State(l.Greylist)}
		}
		t.Facts.Rcpts = append(t.Facts.Rcpts, r)
	}
	if l.Ms != nil {
		t.Took = time.Duration(*l.Ms) * time.Millisecond
	}
	if l.Order != nil {
		t.Facts.Told, t.Told = l.Order.Begin.after(l.Time.Time), l.Order.End.after(l.Time.Time)
	}
	if l.Score != nil {
		t.Score = *l.Score
	}
	if l.Reason != nil {
		t.Reason = *l.Reason
	}
	if l.Reply != nil {
		t.Reply = *l.Reply
	}
	return t
}

func greyedNone(rcpts []Rcpt) bool {
	return !slices.ContainsFunc(rcpts, func(r Rcpt) bool { return r.Grey != nil })
}

func (r *Rcpt) recipient(began time.Time) smtp.Recipient {
	to := smtp.Recipient{
		At: time.Duration(r.T) * time.Millisecond, Told: r.Order.after(began), To: r.To, Form: r.Form, Route: r.Route,
		Oracle: r.Oracle, Age: r.Age, Canary: r.Canary, Trap: r.Trap, Listed: r.Listed, Reason: r.Reason,
	}
	if r.Reply != nil {
		to.Reply = *r.Reply
	}
	if d := r.Directory; d != nil {
		to.Directory = &smtp.Directory{Said: d.Said, At: d.At.Time}
	}
	if g := r.Grey; g != nil {
		to.Grey = &smtp.Grey{State: g.State, Since: g.Since.Time, Left: time.Duration(g.Left) * time.Millisecond}
	}
	return to
}

func lenientRef(s string) ref.Ref {
	r, err := ref.Parse(s)
	if err != nil {
		return 0
	}
	return r
}

// plain is Line without its methods.
type plain Line

// MarshalJSON writes the keys in the contract's order, then those of Extra by
// name.
func (l Line) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // <…> of a Message-ID stays readable
	if err := enc.Encode(plain(l)); err != nil {
		return nil, fmt.Errorf("write record %s: %w", l.Ref, err)
	}
	b.Truncate(b.Len() - 1) // Encode's line feed
	if len(l.Extra) == 0 {
		return b.Bytes(), nil
	}
	b.Truncate(b.Len() - 1) // the closing brace
	for _, key := range slices.Sorted(maps.Keys(l.Extra)) {
		b.WriteByte(',')
		name, err := json.Marshal(key)
		if err != nil {
			return nil, fmt.Errorf("write record %s: %w", l.Ref, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(l.Extra[key])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads a line of any release that keeps the contract.
func (l *Line) UnmarshalJSON(b []byte) error {
	*l = Line{}
	if err := json.Unmarshal(b, (*plain)(l)); err != nil {
		return err
	}
	if l.Time.IsZero() {
		return fmt.Errorf("record %q has no time", l.Ref)
	}
	return l.keepUnknown(b)
}

// keepUnknown fills Extra. Most lines have nothing for it, which a walk over
// the keys tells for a fraction of the cost of a map.
func (l *Line) keepUnknown(b []byte) error {
	if allKnown(b) {
		return nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for key, value := range all {
		if !known[strings.ToLower(key)] { // encoding/json matches without regard to case
			if l.Extra == nil {
				l.Extra = map[string]json.RawMessage{}
			}
			l.Extra[key] = value
		}
	}
	return nil
}

// allKnown says whether every key of the object b, which is valid JSON, is one
// of known. It may say no too often.
func allKnown(b []byte) bool {
	depth, start := 0, -1 // start: of the last string at depth 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := endOfString(b, i)
			if depth == 1 {
				start = i
			}
			i = end
		case ':':
			if depth == 1 && !known[string(b[start+1:bytes.IndexByte(b[start+1:], '"')+start+1])] {
				return false
			}
		}
	}
	return true
}

// endOfString returns where the string that begins at b[i] has its closing
// quote.
func endOfString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i
}

// known holds the names of Line's keys.
var known = keysOf(reflect.TypeFor[Line]())

func keysOf(t reflect.Type) map[string]bool {
	keys := map[string]bool{}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "-" {
			keys[name] = true
		}
	}
	return keys
}

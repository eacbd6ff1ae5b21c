package relay

import (
	"mailweir/smtp/reply"
)

// Stage is the moment of a transaction at which a backend answered.
type Stage string

// The stages, in order.
const (
	AtGreeting Stage = "greeting"
	AtHello    Stage = "hello"
	AtTLS      Stage = "tls"
	AtMail     Stage = "mail"
	AtRcpt     Stage = "rcpt"
	AtData     Stage = "data" // the answer to DATA itself
	AtBody     Stage = "body" // the answer to the final dot
)

// Meaning is what a backend's answer is to us.
type Meaning string

// The meanings.
const (
	Taken           Meaning = "taken"
	UnknownUser     Meaning = "unknown_user"      // clear and permanent; the only one that counts for harvest
	Disabled        Meaning = "mailbox_disabled"  // the mailbox exists and takes nothing
	RecipientForNow Meaning = "recipient_for_now" // a 4xx that is about this recipient
	MessageRefused  Meaning = "message_refused"   // by its content or size: passed through
	Misconfigured   Meaning = "misconfigured"     // it refuses us: 451, and an alarm
	Throttled       Meaning = "throttled"
	Away            Meaning = "away" // unreachable, broken, or failing for the time being
)

// MeaningOf says what r, said at stage, is to us. It errs towards what costs a
// sender nothing: an answer that is not understood is never a permanent
// refusal, and never an unknown user (R-JF-06, R-JF-10).
func MeaningOf(stage Stage, r reply.Reply) Meaning {
	if r.Code >= 200 && r.Code < 300 || stage == AtData && r.Code == 354 {
		return Taken
	}
	if r.Code < 400 || r.Code > 599 {
		return Away // an answer that makes no sense here
	}
	class := Classify(r)
	switch {
	case class == RateLimited:
		return Throttled
	case r.Code == 421:
		return Away
	}
	switch stage {
	case AtRcpt:
		return rcptMeaning(class, r)
	case AtBody:
		return bodyMeaning(class, r)
	case AtMail, AtData:
		if class == Size && r.Permanent() {
			return MessageRefused
		}
	}
	if r.Permanent() || refusesUs(class, r) {
		return Misconfigured
	}
	return Away
}

// refusesUs says whether the refusal is about our host or our relaying, which
// is never the sender's fault.
func refusesUs(class Class, r reply.Reply) bool {
	switch class {
	case RelayDenied, BlocklistedUs, AuthRequired, TLSRequiredThere:
		return true
	case PolicyContent, OtherClass:
		return aboutOurHost(r)
	}
	return false
}

func rcptMeaning(class Class, r reply.Reply) Meaning {
	if refusesUs(class, r) {
		return Misconfigured
	}
	switch class {
	case UnknownUserClass:
		return permanentOr(r, UnknownUser)
	case MailboxDisabled:
		return permanentOr(r, Disabled)
	case MailboxFull, TooManyRcpts, Greylisted:
		return RecipientForNow
	case Size:
		return permanentOr(r, MessageRefused)
	case TempLocal:
		return Away
	}
	if r.Transient() {
		return RecipientForNow
	}
	return Misconfigured // not understood: held, and the operator is told
}

func permanentOr(r reply.Reply, m Meaning) Meaning {
	if r.Permanent() {
		return m
	}
	return RecipientForNow
}

// bodyMeaning judges the answer to the whole message. A refusal that names the
// content, or carries a code of content, size or policy, is the backend's own
// verdict on the message. One that names no cause is held.
func bodyMeaning(class Class, r reply.Reply) Meaning {
	switch {
	case r.Transient() && refusesUs(class, r):
		return Misconfigured
	case r.Transient():
		return Away
	case refusesUs(class, r):
		return Misconfigured
	}
	switch class {
	case UnknownUserClass, MailboxDisabled, Size, PolicyContent:
		return MessageRefused
	case MailboxFull:
		return RecipientForNow
	case TooManyRcpts, Greylisted, TempLocal:
		return Away
	}
	if e := r.Enhanced; e[1] == 6 || e[1] == 7 || e == (reply.Enhanced{5, 3, 4}) {
		return MessageRefused
	}
	return Misconfigured
}

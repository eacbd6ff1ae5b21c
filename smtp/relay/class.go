package relay

import (
	"regexp"
	"strings"

	"mailweir/smtp/reply"
)

// Class is what kind of answer a text is, whoever wrote it and at whatever
// stage. What it means to us is MeaningOf's matter.
type Class string

// The classes.
const (
	UnknownUserClass Class = "unknown_user"
	MailboxDisabled  Class = "mailbox_disabled"
	MailboxFull      Class = "mailbox_full"
	Size             Class = "size"
	PolicyContent    Class = "policy_content" // the message, its sender or their authentication
	BlocklistedUs    Class = "blocklisted_us" // the address it came from: ours
	RelayDenied      Class = "relay_denied"
	AuthRequired     Class = "auth_required"
	TLSRequiredThere Class = "tls_required"
	Greylisted       Class = "greylisted"
	RateLimited      Class = "rate_limited"
	TempLocal        Class = "temp_local"
	TooManyRcpts     Class = "too_many_rcpts"
	OtherClass       Class = "other"
)

// Classify says what kind of answer r is. The first rule that fits decides;
// those that say "you" (relaying, block lists, rates) come before those that
// say "he", so that an answer about us is never taken for an unknown user.
// Addresses in the text are not looked at: a recipient called relay-denied@ or
// user.unknown@ would choose his class otherwise.
func Classify(r reply.Reply) Class {
	if r.Code < 400 || r.Code > 599 {
		return OtherClass
	}
	text := plain(r.Text)
	for _, rule := range rules {
		if rule.fits(r, text) {
			return rule.class
		}
	}
	if c, ok := byEnhanced(r); ok {
		return c
	}
	if r.Transient() {
		return TempLocal
	}
	return OtherClass
}

var (
	quotedAddress = regexp.MustCompile(`"[^"]*"@\S+`)
	angled        = regexp.MustCompile(`<[^<>]*>`)
	bareAddress   = regexp.MustCompile(`[^\s<>()\[\],;:"']+@[a-z0-9._-]*[a-z0-9]`)
	spaces        = regexp.MustCompile(`\s+`)
)

// plain is text in lower case without the addresses in it, and with other
// bracketed words (a link) out of their brackets.
func plain(text string) string {
	text = strings.ToLower(text)
	text = quotedAddress.ReplaceAllString(text, "@")
	text = angled.ReplaceAllStringFunc(text, func(s string) string {
		if strings.Contains(s, "://") {
			return " " + s[1:len(s)-1] + " "
		}
		return "@"
	})
	text = bareAddress.ReplaceAllString(text, "@")
	return spaces.ReplaceAllString(text, " ")
}

// rule gives a class to texts that match, if the code fits too.
type rule struct {
	class    Class
	code     string // "", "4", "5", or three digits
	enhanced string // "" or as in X.7.10
	text     *regexp.Regexp
	but      *regexp.Regexp // nil, or texts that it does not fit
}

func (l rule) fits(r reply.Reply, text string) bool {
	switch {
	case l.code != "" && !strings.HasPrefix(r.Line(), l.code):
		return false
	case l.enhanced != "" && r.Enhanced.String()[1:] != l.enhanced[1:]:
		return false
	case l.text != nil && !l.text.MatchString(text):
		return false
	}
	return l.but == nil || !l.but.MatchString(text)
}

// byEnhanced is the class of an answer whose text says nothing (RFC 3463,
// RFC 7372).
func byEnhanced(r reply.Reply) (Class, bool) {
	e := r.Enhanced
	switch [2]int{e[1], e[2]} {
	case [2]int{1, 1}, [2]int{1, 10}:
		return UnknownUserClass, true
	case [2]int{2, 1}:
		return MailboxDisabled, true
	case [2]int{2, 2}:
		return MailboxFull, true
	case [2]int{2, 3}, [2]int{3, 4}:
		return Size, true
	case [2]int{5, 3}:
		return TooManyRcpts, true
	case [2]int{7, 10}, [2]int{7, 11}:
		return TLSRequiredThere, true
	case [2]int{7, 8}, [2]int{7, 9}:
		return AuthRequired, true
	case [2]int{4, 5}:
		return RateLimited, r.Transient()
	case [2]int{3, 1}, [2]int{3, 5}:
		return TempLocal, r.Transient()
	}
	if e[1] == 6 || e[1] == 7 && r.Permanent() {
		return PolicyContent, true
	}
	return OtherClass, false
}

// aboutOurHost says whether an answer of policy is about the host that the
// message came from: its name, its address, or what SPF and DMARC make of it.
// Behind an edge that host is ours, and the backend should not look.
func aboutOurHost(r reply.Reply) bool {
	switch r.Enhanced[1]*100 + r.Enhanced[2] {
	case 723, 724, 725, 726, 727: // RFC 7372
		return r.Enhanced[1] == 7
	}
	return ourHost.MatchString(plain(r.Text))
}

var ourHost = regexp.MustCompile(`client host rejected|helo command rejected|\bspf\b|sender policy framework|\bdmarc\b|` +
	`reverse dns|\brdns\b|\bptr\b|ip name lookup|cannot find your (reverse )?host ?name|` +
	`(your|this|sending|connecting|client|source) (ip|host|server|address|mail server)|host network not allowed|` +
	`not allowed to (connect|send from)|unauthenticated`)

package relay

import (
	"regexp"
	"strconv"
	"strings"
	"sync"

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
	r.Text = plain(r.Text)
	return seen.class(r)
}

// classify reads a reply whose text is plain.
func classify(r reply.Reply) Class {
	if e := r.Enhanced; e[0] == 4 && e[1] == 7 && e[2] >= 500 && e[2] <= 699 {
		return RateLimited // Exchange Online, whatever the words
	}
	for _, rule := range rules {
		if rule.fits(r) {
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

// memo keeps the classes of the answers seen lately: servers say the same few
// things, and the rules take a hundred times as long as a look here.
type memo struct {
	mu    sync.Mutex
	known map[reply.Reply]Class
}

const maxMemo = 1000

var seen = memo{known: make(map[reply.Reply]Class)}

func (m *memo) class(r reply.Reply) Class {
	m.mu.Lock()
	c, ok := m.known[r]
	m.mu.Unlock()
	if ok {
		return c
	}
	c = classify(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxMemo {
		clear(m.known)
	}
	m.known[r] = c
	return c
}

// plain is text in lower case without the addresses in it, and with other
// bracketed words (a link) out of their brackets.
func plain(text string) string {
	text = strings.ToLower(cut(text, maxText))
	var b strings.Builder
	if n := wordLength(text); n > 3 && text[n-3:n] == "..." {
		text = "@" + text[n:] // sendmail names a local recipient so
	}
	for text != "" {
		n, word := plainWord(text)
		text = text[n:]
		if word == " " && (b.Len() == 0 || strings.HasSuffix(b.String(), " ")) {
			continue
		}
		b.WriteString(word)
	}
	return b.String()
}

// maxText is how much of an answer is looked at.
const maxText = 1000

const (
	inAddress  = " \t\r\n<>()[],;:\"" // end one
	delimiters = inAddress + "'"      // which a local part may have inside: o'hara@
)

// plainWord reads the first word or delimiter of s and returns its length and
// what stands for it.
func plainWord(s string) (n int, word string) {
	switch c := s[0]; {
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		return 1, " "
	case c == '<':
		end := strings.IndexByte(s, '>')
		if end < 0 || strings.Contains(s[:end], "://") {
			return 1, " "
		}
		return end + 1, "@"
	case c == '"':
		if end := quotedLength(s); strings.HasPrefix(s[end:], "@") {
			return end + 1 + wordLength(s[end+1:]), "@"
		}
		return 1, s[:1]
	case strings.IndexByte(delimiters, c) >= 0:
		return 1, s[:1]
	}
	if n = lengthTo(s, inAddress); strings.IndexByte(s[:n], '@') >= 0 {
		return n, "@"
	}
	n = wordLength(s)
	return n, s[:n]
}

// quotedLength is the length of the Quoted-string that s begins with (RFC 5321
// section 4.1.2), or of all of s where it has no end.
func quotedLength(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

func wordLength(s string) int { return lengthTo(s, delimiters) }

func lengthTo(s, ends string) int {
	if n := strings.IndexAny(s, ends); n >= 0 {
		return n
	}
	return len(s)
}

// rule gives a class to texts that match, if the code fits too.
type rule struct {
	class    Class
	code     string // "", "4", "5", or three digits
	enhanced string // "" or as in X.7.10
	text     *regexp.Regexp
	but      *regexp.Regexp // nil, or texts that it does not fit
}

func (l rule) fits(r reply.Reply) bool {
	switch {
	case l.code != "" && !strings.HasPrefix(strconv.Itoa(r.Code), l.code):
		return false
	case l.enhanced != "" && r.Enhanced.String()[1:] != l.enhanced[1:]:
		return false
	case l.text != nil && !l.text.MatchString(r.Text):
		return false
	}
	return l.but == nil || !l.but.MatchString(r.Text)
}

// byEnhanced is the class of an answer whose text says nothing (RFC 3463,
// RFC 7372).
func byEnhanced(r reply.Reply) (Class, bool) {
	e := r.Enhanced
	switch [2]int{e[1], e[2]} {
	case [2]int{1, 1}, [2]int{1, 10}:
		if notUnknown.MatchString(r.Text) {
			return OtherClass, r.Permanent() // the code of one refusal on the words of another
		}
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

var ourHost = re(`client host rejected|helo command rejected|\bspf\b|sender policy framework|\bdmarc\b|` +
	`reverse dns|\brdns\b|\bptr\b|ip name lookup|cannot find your (reverse )?host ?name|` +
	`(your|this|sending|connecting|client|source) (ip|host|server|address|mail server)|host network not allowed|` +
	`not allowed to (connect|send from)|unauthenticated|authentication (level|requirements)`)

package relay

import (
	"strings"

	"mailweir/smtp/reply"
)

var okReply = reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 0, 0}, Text: "Message accepted"}

// forNow is what the client hears of a recipient that is refused for the time
// being: the backend's code, in our words.
func forNow(r reply.Reply) reply.Reply {
	out := reply.RecipientForNow.Reply()
	if Classify(r) == MailboxFull {
		out.Code, out.Enhanced, out.Text = 452, reply.Enhanced{4, 2, 2}, "Mailbox is full, try again later"
		return out
	}
	if r.Transient() && r.Code != 421 { // 421 would close the session
		out.Code = r.Code
		if r.Enhanced[0] == 4 {
			out.Enhanced = r.Enhanced
		}
	}
	return out
}

// passOn is a backend's refusal of a message as the client hears it: its code
// and words, without its name.
func passOn(r reply.Reply, b *Backend) reply.Reply {
	out := reply.MessageRefused.Reply()
	if !r.Permanent() {
		return out
	}
	out.Code = r.Code
	out.Enhanced = reply.Enhanced{5, 6, 0}
	if r.Enhanced[0] == 5 {
		out.Enhanced = r.Enhanced
	}
	return out.Detail(b.nameless(r.Text))
}

// nameless is text without what would tell a stranger where the backend is.
func (b *Backend) nameless(text string) string {
	for _, name := range []string{b.url.Host, b.health.name()} {
		if len(name) > 3 {
			text = replaceFold(text, name, "[backend]")
		}
	}
	return text
}

func replaceFold(s, old, new string) string {
	var out strings.Builder
	lower := strings.ToLower(s)
	if len(lower) != len(s) {
		return new // some letter changes its length: not worth the trouble
	}
	for {
		i := strings.Index(lower, strings.ToLower(old))
		if i < 0 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i] + new)
		s, lower = s[i+len(old):], lower[i+len(old):]
	}
}

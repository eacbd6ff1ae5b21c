package relay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailweir/smtp/reply"
)

// Bounds of a reply. RFC 5321 section 4.5.3.1.5 allows 512 octets a line; some
// servers write more. Whoever goes over these is no mail server.
const (
	maxReplyLine  = 4096
	maxReplyLines = 100
)

// errNonsense says that what came is no SMTP reply.
var errNonsense = errors.New("the server answers something that is not SMTP; check host and port of the backend's url")

// response is one reply of a server, line by line.
type response struct {
	code  int
	lines []string // without code and line end
}

// readResponse reads one reply (RFC 5321 section 4.2.1). It is strict: three
// digits, "-" or a space or nothing, the same code on every line. How long the
// server may take is the reader's matter.
func readResponse(r *bufio.Reader) (response, error) {
	var resp response
	for len(resp.lines) < maxReplyLines {
		line, err := readLine(r)
		if err != nil {
			return resp, err
		}
		code, more, text, ok := splitLine(line)
		if !ok || resp.code != 0 && code != resp.code {
			return resp, fmt.Errorf("%w: %q", errNonsense, cut(line, 80))
		}
		resp.code = code
		resp.lines = append(resp.lines, text)
		if !more {
			return resp, nil
		}
	}
	return resp, fmt.Errorf("%w: a reply of more than %d lines", errNonsense, maxReplyLines)
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: a line of more than %d bytes", errNonsense, maxReplyLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return "", fmt.Errorf("%w in the middle of a reply: %q", io.ErrUnexpectedEOF, cut(string(line), 80))
	case err != nil:
		return "", err
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}

func splitLine(s string) (code int, more bool, text string, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || !isDigit(s[1]) || !isDigit(s[2]) {
		return 0, false, "", false
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	switch {
	case len(s) == 3:
		return code, false, "", true
	case s[3] == ' ' || s[3] == '-':
		return code, s[3] == '-', s[4:], true
	}
	return 0, false, "", false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func cut(s string, n int) string { return s[:min(len(s), n)] }

// reply joins the lines into one, with the enhanced code apart.
func (resp response) reply() reply.Reply {
	r := reply.Reply{Code: resp.code}
	texts := make([]string, 0, len(resp.lines))
	for _, line := range resp.lines {
		e, text := cutEnhanced(line)
		if e[0] == resp.code/100 {
			r.Enhanced = e // the last line's: RFC 2034 wants the same on all
		}
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	r.Text = strings.Join(texts, " ")
	if r.Enhanced == (reply.Enhanced{}) {
		r.Enhanced = qmailCode(r)
	}
	return r
}

// cutEnhanced splits an enhanced code off the start of a line (RFC 2034).
func cutEnhanced(s string) (e reply.Enhanced, rest string) {
	word, rest, _ := strings.Cut(s, " ")
	e, ok := parseEnhanced(word)
	if !ok {
		return reply.Enhanced{}, s
	}
	return e, rest
}

func parseEnhanced(s string) (e reply.Enhanced, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return e, false
	}
	for i, p := range parts {
		if len(p) < 1 || len(p) > 3 {
			return e, false
		}
		for j := range len(p) {
			if !isDigit(p[j]) {
				return e, false
			}
			e[i] = e[i]*10 + int(p[j]-'0')
		}
	}
	return e, true
}

// qmailCode finds the code where qmail and its descendants put it: at the end
// of the text, as (#5.1.1).
func qmailCode(r reply.Reply) reply.Enhanced {
	_, after, found := strings.Cut(r.Text, "(#")
	if !found {
		return reply.Enhanced{}
	}
	code, _, found := strings.Cut(after, ")")
	if e, ok := parseEnhanced(code); found && ok && e[0] == r.Code/100 {
		return e
	}
	return reply.Enhanced{}
}

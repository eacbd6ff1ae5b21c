package smtp

import (
	"bytes"
	"io"
	"strings"
)

// header stands before the place where a message is kept, and looks at its
// header fields as they pass: it counts Received (the hops of a loop), notes
// Message-ID and From, and drops what claims to be ours and must not reach a
// backend that trusts our word: each Authentication-Results with our id (RFC
// 8601 section 5), and each score.
// All else passes byte by byte, or signatures would break.
//
// The header ends at the first empty line, as RFC 5322 section 2.1 has it. Lines
// before it that are no fields are passed and looked beyond, since a server
// behind us may do so too.
type header struct {
	out      io.Writer
	authserv string // our authserv-id

	hops      int
	messageID string
	from      []string
	dropped   int // fields

	fields     int
	size       int  // bytes
	fieldSize  int  // bytes of the field at hand
	joined     int  // bytes that are copied by who joins the lines of a field one by one
	signatures int  // DKIM-Signature fields
	long       bool // one of these is longer than what is looked at

	line   []byte // a line, or a piece of one, that is not taken yet
	cut    bool   // line goes on with one that was taken in pieces
	field  []byte // the field at hand, until it is decided
	fate   fate
	inBody bool
}

// mostFrom bounds the From fields that are noted: one that is too much says
// all.
const mostFrom = 2

// fate is what was decided of the field at hand.
type fate int

const (
	undecided fate = iota
	kept
	droppedField
)

// longField is how much of a field is looked at before its fate is decided, and
// the size of the pieces that a longer line is taken in: what a connection costs
// us that sends a header without end. The authserv-id stands at the very
// beginning, but for comments. Who writes so long a one before it has something
// to hide.
const longField = 4 << 10

// What is looked at for signatures. The library looks through all fields for
// each that a signature names, so that a few hundred KiB of names and of fields
// would take it minutes. Mail that people send has under 200 fields.
const (
	mostFields = 1000
	mostHeader = 256 << 10
	mostJoined = 128 << 20
)

// unwieldy says whether signatures are better not looked at.
func (h *header) unwieldy() bool {
	return h.fields > mostFields || h.size > mostHeader || h.joined > mostJoined || h.long
}

func (h *header) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 && !h.inBody {
		n := min(len(rest), longField-len(h.line))
		i := bytes.IndexByte(rest[:n], '\n')
		if i >= 0 {
			n = i + 1
		}
		h.line = append(h.line, rest[:n]...)
		rest = rest[n:]
		if i < 0 && len(h.line) < longField {
			continue
		}
		if err := h.takeLine(); err != nil {
			return 0, err
		}
	}
	if len(rest) > 0 {
		if _, err := h.out.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// takeLine takes a line of the header, or a piece of one.
func (h *header) takeLine() error {
	line := h.line
	h.line = h.line[:0]
	h.size += len(line)
	begins, ends := !h.cut, line[len(line)-1] == '\n'
	h.cut = !ends
	goesOn := !begins || line[0] == ' ' || line[0] == '\t'
	switch {
	case !goesOn:
		h.fieldSize = 0
	case begins:
		h.joined += h.fieldSize
	}
	h.fieldSize += len(line)
	switch {
	case begins && ends && len(bytes.TrimRight(line, "\r\n")) == 0:
		if err := h.endField(); err != nil {
			return err
		}
		h.inBody = true
		_, err := h.out.Write(line)
		return err
	case goesOn && h.fate == kept:
		_, err := h.out.Write(line)
		return err
	case goesOn && h.fate == droppedField:
		return nil
	case !goesOn:
		if err := h.endField(); err != nil {
			return err
		}
	}
	h.field = append(h.field, line...)
	if len(h.field) > longField {
		return h.decide()
	}
	return nil
}

// endField decides the field at hand, if that is still to be done, and makes
// room for the next.
func (h *header) endField() error {
	if h.fate == undecided && len(h.field) > 0 {
		if err := h.decide(); err != nil {
			return err
		}
	}
	h.fate, h.field = undecided, h.field[:0]
	return nil
}

// decide looks at the field at hand and passes or drops it.
func (h *header) decide() error {
	h.fate = kept
	h.fields++
	name, value, _ := bytes.Cut(h.field, []byte(":"))
	switch strings.ToLower(strings.TrimRight(string(name), " \t")) {
	case "received":
		h.hops++
	case "message-id":
		h.messageID = shortValue(value)
	case "from":
		if len(h.from) < mostFrom {
			h.from = append(h.from, string(value[:min(len(value), longField)]))
		}
	case "dkim-signature":
		h.signatures++
		h.long = h.long || len(h.field) > longField
	case strings.ToLower(scoreField):
		h.fate = droppedField
		h.dropped++
		return nil
	case "authentication-results":
		id, rest := authservID(string(value))
		if strings.EqualFold(id, h.authserv) || rest == "" && len(h.field) > longField {
			h.fate = droppedField
			h.dropped++
			return nil
		}
	}
	_, err := h.out.Write(h.field)
	return err
}

// Close passes what is left of a message that ended within its header.
func (h *header) Close() error {
	if h.inBody {
		return nil
	}
	if len(h.line) > 0 {
		if err := h.takeLine(); err != nil {
			return err
		}
	}
	return h.endField()
}

// shortValue unfolds a field's value, for the record.
func shortValue(v []byte) string {
	s := strings.Join(strings.Fields(string(v)), " ")
	return strings.ToValidUTF8(s[:min(len(s), 250)], "?")
}

// authservID reads the authserv-id at the beginning of the value of an
// Authentication-Results field: a token or quoted-string after optional
// comments and white space (RFC 8601 section 2.2). Without a rest behind it, it
// may go on where v was cut.
func authservID(v string) (id, rest string) {
	v = skipComments(v)
	if inner, quoted := strings.CutPrefix(v, `"`); quoted {
		id, rest, _ = strings.Cut(inner, `"`)
		return strings.ReplaceAll(id, `\`, ""), rest
	}
	if i := strings.IndexAny(v, " \t\r\n;(/"); i >= 0 {
		return v[:i], v[i:]
	}
	return v, ""
}

// skipComments drops leading white space and comments, nested and with quoted
// pairs (CFWS of RFC 5322 section 3.2.2).
func skipComments(v string) string {
	depth := 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth == 0 && !strings.ContainsRune(" \t\r\n", rune(c)):
			return v[i:]
		}
	}
	return ""
}

// Package reply holds every reply that Mailweir itself gives an SMTP client,
// and the countable reasons behind them. A reply is a value; the session, the
// judges and the wire all speak through it, and a record keeps the very bytes.
package reply

import (
	"fmt"
	"strconv"
	"strings"

	"mailweir/ref"
)

// Enhanced is an enhanced status code, class.subject.detail (RFC 3463).
type Enhanced [3]int

func (e Enhanced) String() string { return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2]) }

// MarshalText writes the code as 5.1.1, and nothing for the zero value.
func (e Enhanced) MarshalText() ([]byte, error) {
	if e == (Enhanced{}) {
		return nil, nil
	}
	return []byte(e.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (e *Enhanced) UnmarshalText(b []byte) error {
	*e = Enhanced{}
	if len(b) == 0 {
		return nil
	}
	parts := strings.SplitN(string(b), ".", 4)
	if len(parts) != 3 {
		return badEnhanced(b)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return badEnhanced(b)
		}
		e[i] = int(n)
	}
	return nil
}

func badEnhanced(b []byte) error {
	return fmt.Errorf("enhanced status code %q is not of the form 5.1.1", b)
}

// Reply is one single-line SMTP reply (RFC 5321 section 4.2).
type Reply struct {
	Code     int      `json:"code"`
	Enhanced Enhanced `json:"enhanced,omitzero"` // zero: none, as in greetings and 354
	Text     string   `json:"text"`
}

// Line writes r as it stands on the wire, without CRLF.
func (r Reply) Line() string {
	if r.Enhanced == (Enhanced{}) {
		return fmt.Sprintf("%03d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%03d %v %s", r.Code, r.Enhanced, r.Text)
}

// Positive, Transient and Permanent tell the class of the code.
func (r Reply) Positive() bool  { return r.Code >= 200 && r.Code < 400 }
func (r Reply) Transient() bool { return r.Code >= 400 && r.Code < 500 }
func (r Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

// Detail returns r with a short explanation behind its text. What came from
// outside may be put in: bytes that could end or garble the line become "?",
// and the length is bounded (RFC 5321 section 4.5.3.1.5 allows 512 in all).
func (r Reply) Detail(detail string) Reply {
	const most = 300
	if detail == "" {
		return r
	}
	b := []byte(r.Text + ": " + detail)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	r.Text = string(b[:min(len(b), most)])
	return r
}

// WithRef returns r with its text ending in the ref, as every refusal does.
func (r Reply) WithRef(id ref.Ref) Reply {
	if id != 0 && !r.Positive() {
		r.Text += " (ref " + id.String() + ")"
	}
	return r
}

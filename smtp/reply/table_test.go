package reply

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"mailweir/ref"
)

// constants reads the Reason constants out of the source, so that one without
// a row cannot hide.
func constants(t *testing.T) map[string]Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Reason{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found[spec.Names[0].Name] = Reason(value)
		return true
	})
	return found
}

func TestEveryReasonHasOneRow(t *testing.T) {
	rows := map[Reason]int{}
	for _, row := range Table() {
		rows[row.Reason]++
	}
	all := constants(t)
	if len(all) < 30 {
		t.Fatalf("read only %d constants from reason.go", len(all))
	}
	values := map[Reason]string{}
	for name, value := range all {
		if rows[value] != 1 {
			t.Errorf("%s has %d rows in the table, want 1", name, rows[value])
		}
		if other, twice := values[value]; twice {
			t.Errorf("%s and %s are both %q", name, other, value)
		}
		values[value] = name
		if !wellFormed(string(value)) {
			t.Errorf("%s = %q, want lower case, digits and _ only", name, value)
		}
	}
	if len(rows) != len(all) {
		t.Errorf("%d reasons in the table, %d constants", len(rows), len(all))
	}
}

func wellFormed(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// A reply must be one line that every client can read: a code and an enhanced
// code of the same class (RFC 2034 section 4), ASCII text, and room for the ref
// within the 512 bytes of RFC 5321 section 4.5.3.1.5.
func TestRowsAreWellFormed(t *testing.T) {
	for _, row := range Table() {
		r := row.Reply
		if r.Code/100 != r.Enhanced[0] || r.Code/100 != 4 && r.Code/100 != 5 {
			t.Errorf("%s: code %d with enhanced %v", row.Reason, r.Code, r.Enhanced)
		}
		if row.Action == Defer && !r.Transient() || row.Action == Reject && !r.Permanent() {
			t.Errorf("%s: action %s with code %d", row.Reason, row.Action, r.Code)
		}
		line := r.WithRef(ref.New()).Line()
		if len(line) > 510 || strings.Trim(line, asciiPrintable) != "" {
			t.Errorf("%s: bad line %q", row.Reason, line)
		}
		if !wellFormed(row.Check) || !strings.HasSuffix(row.Help, ".") {
			t.Errorf("%s: check %q, help %q", row.Reason, row.Check, row.Help)
		}
	}
}

var asciiPrintable = func() string {
	var b strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()
}()

// The catalogue of requirements, R-BW-E01 to E26.
func TestCatalogue(t *testing.T) {
	for _, want := range []struct {
		reason Reason
		alias  string
		line   string
	}{
		{Geo, "DENIED_ACCESS_DENIED", "554 5.7.1"},                            // R-BW-E01
		{Banned, "DENIED_BLACKLIST_IP", "554 5.7.1"},                          // R-BW-E03
		{BlockedName, "DENIED_BLACKLIST_NAME", "554 5.7.1"},                   // R-BW-E04
		{EarlyTalk, "DENIED_EARLYTALKER", "554 5.5.0"},                        // R-BW-E05
		{Greylisted, "DENIED_GRAYLISTED", "451 4.7.1"},                        // R-BW-E06
		{Internal, "DENIED_OTHER", "451 4.3.0"},                               // R-BW-E10
		{BlockedRecipient, "DENIED_RECIPIENT_BLACKLISTED", "550 5.2.1"},       // R-BW-E15
		{HeldRecipient, "DENIED_RECIPIENT_BLACKLISTED", "450 4.2.1"},          // R-BW-E15
		{BlockedSender, "DENIED_SENDER_BLACKLISTED", "550 5.7.1"},             // R-BW-E18
		{Maintenance, "DENIED_REJECT_ALL", "421 4.3.2"},                       // R-BW-E16
		{Relaying, "DENIED_RELAYING", "554 5.7.1"},                            // R-BW-E17
		{TooManyRecipients, "DENIED_TOO_MANY_RECIPIENTS", "452 4.5.3"},        // R-BW-E20
		{UnqualifiedRecipient, "DENIED_UNQUALIFIED_RECIPIENT", "550 5.1.3"},   // R-BW-E21
		{NoRecipients, "DENIED_ZERO_RECIPIENTS", "554 5.5.1"},                 // R-BW-E22
		{TLSRequired, "FAILED_TLS", "530 5.7.10"},                             // R-BW-E24
		{Timeout, "TIMEOUT", "421 4.4.2"},                                     // R-BW-E25
		{SenderLocal, "DENIED_AUTH_REQUIRED", "530 5.7.0"},                    // R-BW-E02
		{SenderIsRecipient, "DENIED_IDENTICAL_SENDER_RECIPIENT", "550 5.7.1"}, // R-BW-E07
		{RDNSGenericCC, "DENIED_IP_IN_CC_RDNS", "550 5.7.25"},                 // R-BW-E08
		{RDNSGeneric, "DENIED_IP_IN_RDNS", "550 5.7.25"},                      // R-BW-E09
		{DNSBL, "DENIED_RBL_MATCH", "554 5.7.1"},                              // R-BW-E11
		{RDNSMissing, "DENIED_RDNS_MISSING", "550 5.7.25"},                    // R-BW-E12
		{RDNSMismatch, "DENIED_RDNS_RESOLVE", "550 5.7.25"},                   // R-BW-E13
		{RHSBL, "DENIED_RHSBL_MATCH", "554 5.7.1"},                            // R-BW-E14
		{SenderNoMX, "DENIED_SENDER_NO_MX", "550 5.1.8"},                      // R-BW-E19
		{SenderNullMX, "DENIED_SENDER_NO_MX", "550 5.7.27"},                   // R-BW-E19
		{AuthFailed, "FAILED_AUTH", "535 5.7.8"},                              // R-BW-E23
		{Auth, "UNKNOWN_AUTH", "504 5.5.4"},                                   // R-BW-E26
		{UnknownUser, "", "550 5.1.1"},                                        // R-BW-15
	} {
		if got := want.reason.Alias(); got != want.alias {
			t.Errorf("%s: alias %q, want %q", want.reason, got, want.alias)
		}
		if got := want.reason.Reply().Line(); !strings.HasPrefix(got, want.line+" ") {
			t.Errorf("%s: reply %q, want %s", want.reason, got, want.line)
		}
	}
}

// R-BX-07: who meets a trap, or is convicted by his guess, hears what every
// unknown recipient hears, to the letter.
func TestTrapsSoundLikeUnknownRecipients(t *testing.T) {
	for _, r := range []Reason{Trap, Harvest} {
		if got, want := r.Reply(), UnknownUser.Reply(); got != want {
			t.Errorf("%s says %v, an unknown recipient %v", r, got, want)
		}
	}
}

func TestUnlistedReasonIsOurFault(t *testing.T) {
	if got := Of("nonsense"); got.Reason != Internal || !got.Reply.Transient() {
		t.Errorf("Of(nonsense) = %v, want the row of internal", got)
	}
	if got := Reason("nonsense").Alias(); got != "" {
		t.Errorf("alias %q, want none", got)
	}
}

func TestDetailStaysOneLine(t *testing.T) {
	r := Size.Reply().Detail("limit\r\n250 ok\x00 \u00fc")
	if got, want := r.Text, "Message too big: limit??250 ok? ??"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := len(Size.Reply().Detail(strings.Repeat("x", 2000)).Text); got > 400 {
		t.Errorf("text of %d bytes", got)
	}
}

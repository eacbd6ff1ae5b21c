package firewall

import "fmt"

// Reason says what a ban was earned by. Its text is the word used in logs,
// records, metrics, on the screen and in the manual.
type Reason uint8

// The reasons a source can be banned for. The numbers are written to the
// ledger and the offence socket: never renumber, only append.
const (
	Operator    Reason = iota + 1 // weir ban
	Harvest                       // guessed addresses (directory harvest)
	Persistence                   // went on after refusals
	Trap                          // wrote to a spamtrap
	Complaint                     // proven complaints of recipients
	RelayProbe                    // probed for an open relay
	AuthGuess                     // guessed passwords
	NotSMTP                       // spoke HTTP, or sent headers as commands
	Flood                         // opened connections without measure
	EarlyTalk                     // talked before the greeting, and more
	Geo                           // comes from where geo.ban says
	Feed                          // is on a feed whose action is to ban
)

var reasonNames = [...]string{
	Operator: "operator", Harvest: "harvest", Persistence: "persistence", Trap: "trap",
	Complaint: "complaint", RelayProbe: "relay_probe", AuthGuess: "auth_guess",
	NotSMTP: "not_smtp", Flood: "flood", EarlyTalk: "early_talk", Geo: "geo", Feed: "feed",
}

// Valid says whether r is one of the constants above.
func (r Reason) Valid() bool { return r > 0 && int(r) < len(reasonNames) }

func (r Reason) String() string {
	if !r.Valid() {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// ParseReason is the inverse of String for valid reasons.
func ParseReason(s string) (Reason, error) {
	for i, name := range reasonNames {
		if name == s && i > 0 {
			return Reason(i), nil
		}
	}
	return 0, fmt.Errorf("unknown ban reason %q", s)
}

// MarshalText writes the name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the name.
func (r *Reason) UnmarshalText(b []byte) (err error) { *r, err = ParseReason(string(b)); return err }

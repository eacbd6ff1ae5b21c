package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Class says what kind of no an answer is. Its number is the exit code of the
// command that asked.
type Class uint8

// The classes; 0 would be success.
const (
	Refused    Class = 1 // understood, and refused or gone wrong
	Usage      Class = 2 // not understood: the caller wrote it wrongly
	NotRunning Class = 3 // nobody there to ask
)

var classes = map[Class]struct {
	name   string
	status int
}{
	Refused:    {"refused", http.StatusConflict},
	Usage:      {"usage", http.StatusBadRequest},
	NotRunning: {"not_running", http.StatusServiceUnavailable},
}

// MarshalText writes the name that goes over the wire.
func (c Class) MarshalText() ([]byte, error) { return []byte(classes[c].name), nil }

// UnmarshalText reads it; a name of a later release counts as Refused.
func (c *Class) UnmarshalText(b []byte) error {
	*c = Refused
	for class, k := range classes {
		if k.name == string(b) {
			*c = class
		}
	}
	return nil
}

// Error is a no that survives the way over the socket. Message is for the
// operator and ends with what to do; Lines are further messages, one a line,
// such as the errors of a text with their line numbers.
type Error struct {
	Class   Class    `json:"class"`
	Message string   `json:"message"`
	Lines   []string `json:"lines,omitempty"`
}

func (e *Error) Error() string {
	s := e.Message
	for _, l := range e.Lines {
		s += "\n" + l
	}
	return s
}

// Is makes errors of one class find ErrNotRunning, whatever their text.
func (e *Error) Is(target error) bool {
	return target == ErrNotRunning && e.Class == NotRunning
}

// ErrNotRunning is what errors.Is finds in the error of a Client when nobody
// answers at its socket.
var ErrNotRunning error = &Error{Class: NotRunning, Message: "not running"}

// Refusef makes an error of class Refused.
func Refusef(format string, args ...any) *Error {
	return &Error{Class: Refused, Message: fmt.Sprintf(format, args...)}
}

// Usagef makes an error of class Usage.
func Usagef(format string, args ...any) *Error {
	return &Error{Class: Usage, Message: fmt.Sprintf(format, args...)}
}

// ExitCode is 0 for nil, the class of an *Error in err's chain, else 1.
func ExitCode(err error) int {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return int(e.Class)
	default:
		return int(Refused)
	}
}

// asError keeps an *Error and makes one of class Refused of anything else.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Class: Refused, Message: err.Error()}
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	status := classes[e.Class].status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(e)
}

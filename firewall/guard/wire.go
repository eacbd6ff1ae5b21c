package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mailweir/firewall"
	"mailweir/ref"
)

// The offence socket carries messages of fixed size, little endian.
//
//	request, 16 bytes:  version, reason, widest, 5 zero bytes, ref (8)
//	question, 18 bytes: version, askStanding, address (16)
//	answer, 56 bytes:   version, status, step, bits, reason, 3 zero bytes,
//	                    until (8, Unix seconds), address (16), then 24 bytes:
//	                    the guard's name, or of a ban its ref (8)
const (
	wireVersion  = 1
	requestSize  = 16
	questionSize = 18 // bytes of a question about an address
	answerSize   = 56
	maxRef       = 1<<55 - 1
)

// Outcome is what became of an offence.
type Outcome uint8

// The outcomes. The numbers go over the socket: never renumber, only append.
const (
	Banned      Outcome = iota + 1 // the first engine drops the source now
	Already                        // a ban covers it; its end is not moved
	Pending                        // in the ledger, the engines will have it as soon as they can
	Vetoed                         // Result.Guard names who protects the source
	Busy                           // too many offences at once: send it again later
	Malformed                      // not a message of this protocol
	NotTCP                         // the attached socket is not TCP, or not of this network namespace
	NotAccepted                    // never connected, or connected by ourselves: nobody opened it from outside
	WrongPort                      // not a connection to a protected port
	NoData                         // the source sent nothing yet
	Elsewhere                      // for firewall.Geo: not from where the policy bans
	NotBanned                      // the answer to a question
)

var outcomeNames = [...]string{
	Banned: "banned", Already: "already_banned", Pending: "pending", Vetoed: "vetoed", Busy: "busy",
	Malformed: "malformed", NotTCP: "not_tcp", NotAccepted: "not_accepted", WrongPort: "wrong_port", NoData: "no_data", Elsewhere: "elsewhere", NotBanned: "not_banned",
}

func (o Outcome) valid() bool { return o > 0 && int(o) < len(outcomeNames) }

func (o Outcome) String() string {
	if !o.valid() {
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
	return outcomeNames[o]
}

// Result is guard's answer to an offence.
type Result struct {
	Outcome Outcome
	Ban     firewall.Ban // prefix, until, reason and step; for Banned, Already and Pending
	Guard   string       // for Vetoed: a Guard name of package firewall
}

var errMalformed = errors.New("not a message of the offence socket")

type request struct {
	reason firewall.Reason
	widest uint8 // bits of the prefix in which nobody good is known; 0: there is somebody
	ref    ref.Ref
	about  netip.Addr // a question, and no offence: is this address banned?
}

func (r request) append(b []byte) []byte {
	b = append(b, wireVersion, byte(r.reason), r.widest, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint64(b, uint64(r.ref))
}

// parseRequest takes nothing but what append wrote. An operator's ban is not
// for the mail role to ask.
func parseRequest(b []byte) (request, error) {
	if len(b) != requestSize || b[0] != wireVersion || [5]byte(b[3:8]) != [5]byte{} || b[2] > 128 {
		return request{}, errMalformed
	}
	r := request{reason: firewall.Reason(b[1]), widest: b[2], ref: ref.Ref(binary.LittleEndian.Uint64(b[8:]))}
	if !r.reason.Valid() || r.reason == firewall.Operator || r.ref > maxRef {
		return request{}, errMalformed
	}
	return r, nil
}

// appendQuestion is the question whether an address is banned.
func appendQuestion(b []byte, about netip.Addr) []byte {
	a := about.As16()
	return append(append(b, wireVersion, askStanding), a[:]...)
}

// parseQuestion is the inverse; false: it is none.
func parseQuestion(b []byte) (about netip.Addr, ok bool) {
	if len(b) != questionSize || b[0] != wireVersion || b[1] != askStanding {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b[2:])).Unmap(), true
}

func (r Result) append(b []byte) []byte {
	var a [answerSize]byte
	a[0], a[1] = wireVersion, byte(r.Outcome)
	if r.Ban.Prefix.IsValid() {
		a[2], a[3], a[4] = r.Ban.Step, byte(r.Ban.Prefix.Bits()), byte(r.Ban.Reason)
		binary.LittleEndian.PutUint64(a[8:], uint64(r.Ban.Until.Unix()))
		addr := r.Ban.Prefix.Addr().As16()
		copy(a[16:32], addr[:])
		binary.LittleEndian.PutUint64(a[32:], uint64(r.Ban.Ref))
	} else {
		copy(a[32:], r.Guard)
	}
	return append(b, a[:]...)
}

func parseResult(b []byte) (Result, error) {
	if len(b) != answerSize || b[0] != wireVersion || !Outcome(b[1]).valid() {
		return Result{}, errMalformed
	}
	r := Result{Outcome: Outcome(b[1])}
	if r.Outcome > Pending {
		r.Guard = strings.TrimRight(string(b[32:]), "\x00")
		return r, nil
	}
	prefix, err := netip.AddrFrom16([16]byte(b[16:32])).Unmap().Prefix(int(b[3]))
	if err != nil {
		return Result{}, errMalformed
	}
	r.Ban = firewall.Ban{
		Prefix: prefix, Step: b[2], Reason: firewall.Reason(b[4]),
		Until: time.Unix(int64(binary.LittleEndian.Uint64(b[8:])), 0), Ref: ref.Ref(binary.LittleEndian.Uint64(b[32:])),
	}
	return r, nil
}

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailweir/ref"
	"mailweir/smtp"
	"mailweir/smtp/access"
	"mailweir/smtp/greylist"
	"mailweir/smtp/reply"
)

// The example of the contract, on one line: it must come out byte for byte as
// it went in.
func TestContractExample(t *testing.T) {
	want, err := os.ReadFile("testdata/contract.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.TrimSpace(want)
	var l Line
	if err := json.Unmarshal(want, &l); err != nil {
		t.Fatal(err)
	}
	got, err := l.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	if len(l.Extra) > 0 {
		t.Errorf("keys of the contract are unknown: %v", l.Extra)
	}
}

func fullTransaction() smtp.Transaction {
	from := "a@sender.example"
	return smtp.Transaction{
		Facts: smtp.Facts{
			Ref: mustRef("K7QM-2V9D-4XTR"), Session: ref.New(), Policy: "3f9c",
			Time: time.Date(2026, 11, 22, 8, 30, 0, 123e6, time.UTC), Told: time.Date(2026, 11, 22, 8, 30, 0, 22_001e3, time.UTC),
			Peer: netip.MustParseAddr("203.0.113.7"), Listener: netip.MustParseAddrPort("198.51.100.1:25"),
			Country: "NL", ASN: 64500, Tier: smtp.New, Provider: "google", History: &smtp.History{Mails: 3, Days: 2, Good: 4, Bad: 1, Convicted: true},
			HELO: "mail.sender.example", HELOName: smtp.HELOPeer, TLS: "TLS1.3",
			RDNS:   &smtp.RDNS{Name: "mail.sender.example", State: smtp.Confirmed, Class: "custom", Pattern: "role:mail"},
			Lists:  []smtp.Listing{{Name: "zen", About: "sender.example", Answer: "127.0.0.2", Score: 8, Text: "listed"}},
			Sender: smtp.SenderOK, SPF: "pass", SPFWide: true,
			Slips: []string{"early_talk"}, MailFrom: &from, MailForm: smtp.BadSyntax, Declared: 5000, Limit: 1 << 20,
			Rcpts: []smtp.Recipient{
				{At: 310 * time.Millisecond, Told: time.Date(2026, 11, 22, 8, 30, 0, 433_017e3, time.UTC), To: "u1@example.com", Route: "office",
					Listed: &access.Entry{Action: access.Allow, Subject: access.Subject{Kind: access.RDNS, Name: "sender.example"}, To: "example.com", Author: "root", Why: "ours"},
					Grey:   &smtp.Grey{State: greylist.Early, Since: time.Date(2026, 11, 22, 8, 25, 0, 0, time.UTC), Left: 5 * time.Minute},
					Oracle: smtp.Valid, Age: smtp.Live, Reply: reply.Reply{Code: 250, Enhanced: reply.Enhanced{2, 1, 5}, Text: "ok"}},
				{At: 410 * time.Millisecond, To: "joe", Form: smtp.Unqualified, Trap: true, Reply: reply.Reply{Code: 550, Enhanced: reply.Enhanced{5, 1, 3}, Text: "no"}, Reason: reply.UnqualifiedRecipient},
				{To: "left@example.com"},
			},
			Authentication: smtp.Authentication{
				DKIM: []smtp.Signature{{Domain: "sender.example", Result: "pass"}, {Result: "permerror"}}, Unread: 3, Author: "sender.example", DMARC: "fail", DMARCPolicy: "reject",
			},
			Size: 4096, Hops: 3, MessageID: "<x&y@sender.example>", Backend: "office", BackendReply: "250 2.0.0 ok",
		},
		Checks: []smtp.Check{{Name: "rdns", Action: reply.Pass, Ms: 3.1}},
		Score:  1.5, Outcome: smtp.Rejected, Reason: reply.Harvest,
		Reply: reply.Reply{Code: 354, Text: "go on"}, Took: 412 * time.Millisecond,
		Told: time.Date(2026, 11, 22, 8, 30, 0, 535_900e3, time.UTC),
	}
}

func mustRef(s string) ref.Ref {
	r, err := ref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// Whatever a session gathers comes back from its line as it was.
func TestRoundTrip(t *testing.T) {
	null := ""
	for name, tx := range map[string]smtp.Transaction{
		"full":        fullTransaction(),
		"null sender": {Facts: smtp.Facts{Ref: ref.New(), Time: time.UnixMilli(1_800_000_000_000).UTC(), MailFrom: &null}},
		"no MAIL":     {Facts: smtp.Facts{Ref: ref.New(), Time: time.UnixMilli(1_800_000_000_000).UTC()}},
	} {
		l := NewLine(&tx, "mx1")
		b, err := l.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back Line
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if got := back.Transaction(); !reflect.DeepEqual(got, tx) {
			t.Errorf("%s: got\n%+v\nwant\n%+v\nby %s", name, got, tx, b)
		}
	}
}

// No field of a transaction is forgotten by the line: a full one leaves no
// zero field behind that is kept.
func TestFullTransactionIsFull(t *testing.T) {
	tx := fullTransaction()
	for _, v := range []reflect.Value{reflect.ValueOf(tx), reflect.ValueOf(tx.Facts)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not in fullTransaction: add it there, and to Line", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestAbsentStaysAbsent(t *testing.T) {
	for _, in := range []string{
		`{"v":1,"ref":"K7QM-2V9D-4XTR","time":"2026-11-22T08:30:00.000Z"}`,
		`{"v":1,"ref":"K7QM-2V9D-4XTR","time":"2026-11-22T08:30:00.000Z","mail_from":""}`,
		`{"v":1,"ref":"not ours","time":"2026-11-22T08:30:00.000Z","score":0,"reason":""}`,
		`{"v":2,"ref":"","time":"2026-11-22T08:30:00.120Z","rcpts":[{"t":0,"to":"a@b.example","trap":false,"reason":""}],"alias":"DENIED_OTHER","new_key":{"a":[1,2]}}`,
	} {
		var l Line
		if err := json.Unmarshal([]byte(in), &l); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := l.MarshalJSON(); err != nil || string(got) != in {
			t.Errorf("wrote %s, %v, want %s", got, err, in)
		}
	}
}

func TestTimeIsUTCInMilliseconds(t *testing.T) {
	var l Line
	if err := json.Unmarshal([]byte(`{"ref":"","time":"2026-11-22T10:30:00.12345+02:00"}`), &l); err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(l.Time); string(got) != `"2026-11-22T08:30:00.123Z"` {
		t.Errorf("time came out as %s", got)
	}
}

func TestLinesGoesOnBehindWhatIsNoRecord(t *testing.T) {
	in := `{"ref":"a","time":"2026-11-22T08:30:00.000Z"}

{"ref":"b"}
{"ref":"c","time":"2026-11-22T08:30:00.000Z","peer":"nonsense"}
` + strings.Repeat("x", maxLine+1) + `
{"ref":"d","time":"2026-11-22T08:30:00.000Z"}`
	var refs []string
	var bad []int
	for l, err := range Lines(strings.NewReader(in)) {
		var le *LineError
		switch {
		case errors.As(err, &le):
			bad = append(bad, le.Number)
		case err != nil:
			t.Fatal(err)
		default:
			refs = append(refs, l.Ref)
		}
	}
	if !reflect.DeepEqual(refs, []string{"a", "d"}) || !reflect.DeepEqual(bad, []int{3, 4, 5}) {
		t.Errorf("read %q, bad lines %v", refs, bad)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestLinesEndsWithTheReadersError(t *testing.T) {
	n := 0
	for _, err := range Lines(failing{}) {
		if n++; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d results, want the error once", n)
	}
}

// What can be read can be written, and is then read as the same.
func FuzzLine(f *testing.F) {
	example, err := os.ReadFile("testdata/contract.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(`{"time":"2026-11-22T08:30:00.12345+02:00","mail_from":"","x":1e9,"":[]}`)
	f.Add(`{"time":"2026-11-22T08:30:00Z","rcpts":[{"to":"\ud800","reply":{"enhanced":"5.1"}}]}` + "\n{}")
	f.Fuzz(func(t *testing.T, in string) {
		for l, err := range Lines(strings.NewReader(in)) {
			if err != nil {
				continue
			}
			b, err := l.MarshalJSON()
			if err != nil {
				t.Fatalf("%q was read and cannot be written: %v", in, err)
			}
			var again Line
			if err := json.Unmarshal(b, &again); err != nil {
				t.Fatalf("%s was written and cannot be read: %v", b, err)
			}
			if c, err := again.MarshalJSON(); err != nil || !bytes.Equal(b, c) {
				t.Fatalf("%s became %s, %v", b, c, err)
			}
			tx := l.Transaction()
			line := NewLine(&tx, "")
			if _, err := line.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkReadLine(b *testing.B) {
	in, err := os.ReadFile("testdata/contract.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		var l Line
		if err := l.UnmarshalJSON(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteLine(b *testing.B) {
	tx := fullTransaction()
	for b.Loop() {
		l := NewLine(&tx, "mx1")
		if _, err := l.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

package replay_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"mailweir/record"
)

// wild is a stage on which nothing has the usual form: rates, sizes of
// sessions and transactions, domains and addresses are drawn, facts that a
// record may lack are missing, and the lines come in any order.
type wild struct {
	*stage
	domains []string
	people  int // known mailboxes of each domain
	begin   time.Time
	helo    bool // one name for everybody
	session int
}

func newWild(seed uint64) *wild {
	w := &wild{stage: newStage(seed), people: 60}
	for i := range 1 + w.rng.IntN(3) {
		w.domains = append(w.domains, fmt.Sprintf("town%d.example", i))
	}
	w.helo = w.rng.IntN(4) == 0
	w.background(time.Duration(2+w.rng.IntN(3)) * 24 * time.Hour)
	w.begin = w.now
	return w
}

// background is the mail of a few partners, who know everybody here.
func (w *wild) background(past time.Duration) {
	end := w.now.Add(past)
	for i := 0; w.now.Before(end); i++ {
		w.after(10 * time.Minute)
		partner := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%20)})
		w.send(partner, "p@partner.example", good(w.known())...)
	}
}

// meanwhile goes on with that over what happened since begin, so that there is
// always somebody who is served.
func (w *wild) meanwhile(until time.Time) {
	w.now = w.begin
	for until.After(w.now) {
		w.after(15 * time.Minute)
		w.send(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + w.rng.IntN(20))}), "p@partner.example", good(w.known())...)
	}
}

func (w *wild) domain() string { return w.domains[w.rng.IntN(len(w.domains))] }

func (w *wild) known() string {
	return fmt.Sprintf("person%d@%s", w.rng.IntN(w.people), w.domain())
}

// between draws a number, each size as likely as any other.
func (w *wild) between(low, high float64) float64 {
	x := low
	for range 20 {
		x *= 1 + w.rng.Float64()*(pow20(high/low)-1)*2
	}
	return min(high, x)
}

func pow20(x float64) float64 { // the 20th root, near enough
	r := 1.0
	for range 60 {
		p := 1.0
		for range 19 {
			p *= r
		}
		r = (19*r + x/p) / 20
	}
	return r
}

// habit is how somebody connects.
type habit struct {
	perMail    int // recipients of a transaction
	perSession int // transactions of a session
	message    bool
}

func (w *wild) habit() habit {
	return habit{1 + w.rng.IntN(3)*w.rng.IntN(10), 1 + w.rng.IntN(2)*w.rng.IntN(8), w.rng.IntN(2) == 0}
}

// name has a source name recipients, every one pause after the other, in
// transactions and sessions of its habit.
func (w *wild) name(peer func(i int) netip.Addr, from string, h habit, pause time.Duration, rcpts []said) {
	session, left := "", 0
	for i, part := range slices.Collect(slices.Chunk(rcpts, h.perMail)) {
		if left--; left < 0 {
			w.session++
			session, left = fmt.Sprintf("WILD-%08d", w.session), h.perSession-1
		}
		w.after(max(time.Millisecond*10, pause*time.Duration(len(part))))
		l := w.line(peer(i), from, h.message, part)
		l.Session = session
		w.lines = append(w.lines, l)
	}
}

func always(a netip.Addr) func(int) netip.Addr { return func(int) netip.Addr { return a } }

func (w *wild) guesses(n int) (list []said) {
	d := w.domain()
	for i := range n {
		list = append(list, bad(fmt.Sprintf("guess%x-%d@%s", w.rng.IntN(1<<24), i, d))...)
	}
	return list
}

// mixed is n recipients of which a share is guessed.
func (w *wild) mixed(n int, share float64) (list []said) {
	unknown := w.guesses(n)
	for i := range n {
		if w.rng.Float64() < share {
			list = append(list, unknown[i])
		} else {
			list = append(list, good(w.known())...)
		}
	}
	return list
}

// once has a partner write to mailboxes that will be closed.
func (w *wild) once(n int) (list []said) {
	for i := range n {
		to := fmt.Sprintf("former%d@%s", i, w.domain())
		w.after(time.Minute)
		w.send(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%20)}), "p@partner.example", good(to)...)
		list = append(list, bad(to)...)
	}
	w.begin = w.now
	return list
}

// text is the scene as a file, its lines in any order and bare: without what
// was decided, and without some facts.
func (w *wild) text(t testing.TB, bare bool) []byte {
	var b bytes.Buffer
	lacks := map[string]bool{}
	for _, key := range []string{"age", "listener", "ms", "asn", "rdns", "node", "session", "backend_reply"} {
		lacks[key] = w.rng.IntN(3) == 0
	}
	order := w.rng.Perm(len(w.lines))
	if w.rng.IntN(2) == 0 {
		slices.Sort(order)
	}
	for _, i := range order {
		l := w.lines[i]
		if !w.helo {
			l.HELO = fmt.Sprintf("mail%x.example", l.Peer.As16())
		}
		l.RDNS = &record.RDNS{Name: l.HELO, State: "confirmed", Class: "custom"}
		l.ASN = 64500 + uint32(l.Peer.As16()[12])%7
		fields := object(t, l)
		for key := range lacks {
			if lacks[key] {
				delete(fields, key)
			}
		}
		if lacks["age"] {
			fields["rcpts"] = bytes.ReplaceAll(fields["rcpts"], []byte(`"age":"live",`), nil)
		}
		if bare {
			for _, key := range []string{"checks", "score", "outcome", "reason", "tier"} {
				delete(fields, key)
			}
			fields["rcpts"] = ofRecipient.ReplaceAll(fields["rcpts"], []byte("}"))
		}
		line, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

// ofRecipient is the reason of a recipient, which its reply tells too.
var ofRecipient = regexp.MustCompile(`,"reason":"[a-z_]*"}`)

func object(t testing.TB, v any) (fields map[string]json.RawMessage) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func read(t testing.TB, text []byte) (lines []record.Line) {
	t.Helper()
	for l, err := range record.Lines(bytes.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// end is the last moment of the scene so far.
func (w *wild) end() time.Time {
	return slices.MaxFunc(w.lines, func(a, b record.Line) int { return cmp.Compare(a.Time.UnixMilli(), b.Time.UnixMilli()) }).Time.Time
}

func (w *wild) addr4() netip.Addr {
	return netip.AddrFrom4([4]byte{byte(11 + w.rng.IntN(80)), byte(w.rng.IntN(256)), byte(w.rng.IntN(256)), byte(1 + w.rng.IntN(254))})
}

func (w *wild) addr() netip.Addr {
	if w.rng.IntN(3) == 0 {
		return w.addr6(32, netip.MustParseAddr("2001:db8::"))
	}
	return w.addr4()
}

// addr6 draws an address within the first bits of a.
func (w *wild) addr6(bits int, a netip.Addr) netip.Addr {
	b := a.As16()
	for i := bits / 8; i < 16; i++ {
		b[i] = byte(w.rng.IntN(256))
	}
	return netip.AddrFrom16(b)
}

// TestWild holds drawn scenes against their truth: attackers and innocents, of
// whatever rate and habit, by seeds of which half were never looked at.
func TestWild(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	for _, name := range slices.Sorted(maps.Keys(wilds)) {
		for _, seed := range append(slices.Clone(tuned), untuned[:2]...) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				w := newWild(seed)
				wilds[name](w)
				w.meanwhile(w.end())
				lines := read(t, w.text(t, true))
				says, _ := play(t, lines, w.truth, nil)
				hold(t, lines, w.truth, says)
				w.spared(t, says)
			})
		}
	}
}

// What was decided changes nothing, wherever it stands in the line.
func TestWildFactsAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic in one goroutine: -short (make race) leaves that to make test")
	}
	all := 0
	for name, build := range wilds {
		var said [2][]any
		for i, bare := range []bool{false, true} {
			w := newWild(5)
			build(w)
			said[i], _ = play(t, read(t, w.text(t, bare)), w.truth, nil)
		}
		all += len(said[0])
		if !reflect.DeepEqual(said[0], said[1]) {
			t.Errorf("%s: %d lines said with what was decided, %d without", name, len(said[0]), len(said[1]))
		}
	}
	if all < 1000 {
		t.Errorf("%d lines were said in all", all)
	}
}

// spared: no partner is ever banned.
func (w *wild) spared(t *testing.T, says []any) {
	t.Helper()
	var partners []netip.Addr
	for i := range 20 {
		partners = append(partners, netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}))
	}
	hold(t, nil, truth{Never: partners}, says)
}

package greylist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var (
	ctx   = context.Background()
	start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	anna  = Contact{Pool: "addr:192.0.2.0/24", Sender: "a@sender.example", Recipient: "anna@example.com"}
)

func meet(t *testing.T, l *List, now time.Time, c Contact) Answer {
	t.Helper()
	a, err := l.Meet(ctx, now, Default, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// R-BW-E06, R-CX-02: the time left counts down, an early retry does not start
// it again, and the retry after it passes.
func TestTheTimeLeftIsTrue(t *testing.T) {
	l := New(NewLocal(0), [16]byte{1})
	for _, c := range []struct {
		after time.Duration
		state State
		left  time.Duration
	}{
		{0, First, 10 * time.Minute},
		{time.Minute, Early, 9 * time.Minute},
		{9*time.Minute + 59*time.Second, Early, time.Second},
		{10 * time.Minute, Passed, 0},
		{36 * 24 * time.Hour, Passed, 0},                   // within Pass of the last
		{2 * 36 * 24 * time.Hour, First, 10 * time.Minute}, // Pass is over at that second
	} {
		a := meet(t, l, start.Add(c.after), anna)
		if a.State != c.state || a.Left != c.left {
			t.Errorf("after %v: %s with %v left, want %s with %v", c.after, a.State, a.Left, c.state, c.left)
		}
	}
}

// R-RN-16: the schedules of real mail servers get through with at most one
// interval more than the delay.
func TestSchedules(t *testing.T) {
	minutes := func(m ...int) []int { return m }
	for name, schedule := range map[string][]int{
		"1 3 5 15 45":   minutes(1, 3, 5, 15, 45, 105),
		"5 to 15":       minutes(5, 12, 22, 37),
		"half an hour":  minutes(30, 60),
		"once a day":    minutes(24 * 60),
		"just too late": minutes(48 * 60),
	} {
		l := New(NewLocal(0), [16]byte{1})
		meet(t, l, start, anna)
		got := 0
		for _, m := range schedule {
			if meet(t, l, start.Add(time.Duration(m)*time.Minute), anna).State == Passed {
				got = m
				break
			}
		}
		want := 0
		for _, m := range schedule {
			if m >= 10 && m < 48*60 {
				want = m
				break
			}
		}
		if got != want {
			t.Errorf("%s: passed after %d minutes, want %d", name, got, want)
		}
	}
}

// A pool of twenty hosts is one sender: by SPF, by name, by network, or by the
// domain of their HELO names, each where nothing better is proven.
func TestPools(t *testing.T) {
	for name, host := range map[string]func(i int) Contact{
		"spf": func(i int) Contact {
			return Contact{Pool: PoolOf(Identity{Peer: peer("192.0.%d.1", i), SPFDomain: "mail.sender.example", Name: fmt.Sprintf("h%d.net%d.example", i, i)})}
		},
		"name": func(i int) Contact {
			return Contact{Pool: PoolOf(Identity{Peer: peer("192.0.%d.1", i), Name: fmt.Sprintf("out%d.sender.co.uk", i)})}
		},
		"network": func(i int) Contact { return Contact{Pool: PoolOf(Identity{Peer: peer("192.0.2.%d", i)})} },
		"v6":      func(i int) Contact { return Contact{Pool: PoolOf(Identity{Peer: peer("2001:db8:1:2::%d", i)})} },
		"helo": func(i int) Contact {
			return Contact{Pool: PoolOf(Identity{Peer: peer("192.0.%d.1", i)}), HELO: fmt.Sprintf("out%d.sender.example", i)}
		},
	} {
		l := New(NewLocal(0), [16]byte{1})
		for i := range 20 {
			c := host(i + 1)
			c.Sender, c.Recipient = anna.Sender, anna.Recipient
			want := Early
			switch {
			case i == 0:
				want = First
			case i >= 10:
				want = Passed
			}
			if a := meet(t, l, start.Add(time.Duration(i)*time.Minute), c); a.State != want {
				t.Errorf("%s: host %d: %s, want %s", name, i, a.State, want)
			}
		}
	}
}

func peer(format string, i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, i)) }

// Strangers that share a public suffix, a provider's domain or a network are
// not one sender.
func TestStrangersStayApart(t *testing.T) {
	pools := map[string]bool{}
	for _, id := range []Identity{
		{Peer: peer("192.0.2.%d", 1)},
		{Peer: peer("192.0.3.%d", 1)},
		{Peer: peer("2001:db8:1:3::%d", 1)},
		{Name: "a.one.co.uk"}, {Name: "a.two.co.uk"}, {Name: "one.example"}, {SPFDomain: "one.example"},
	} {
		p := PoolOf(id)
		if pools[p] {
			t.Errorf("%+v shares the pool %s", id, p)
		}
		pools[p] = true
	}
}

func TestCanonical(t *testing.T) {
	for _, same := range [][2]string{
		{"Anna@Sender.Example", "anna@sender.example"},
		{"prvs=1234abcdef=anna@b.example", "prvs=0987fedcba=anna@b.example"},
		{"prvs=1234abcdef=anna@b.example", "anna@b.example"},
		{"SRS0=HHH=TT=orig.example=anna@fwd.example", "SRS0=XYZ=UU=orig.example=anna@fwd.example"},
		{"SRS0+HHH=TT=orig.example=anna@fwd.example", "SRS0=XYZ=UU=orig.example=anna@fwd.example"},
		{"SRS1=HHH=fwd.example==XXX=TT=orig.example=anna@b.example", "SRS1=III=fwd.example==YYY=UU=orig.example=anna@b.example"},
		{"list-return-4711-anna=c.example@b.example", "list-return-4712-anna=c.example@b.example"},
		{"list-return-4711-bert=c.example@b.example", "list-return-4712-anna=c.example@b.example"},
		{"bounce+a1b2c3-anna=c.example@b.example", "bounce+d4e5f6-anna=c.example@b.example"},
		{"anna+news@b.example", "anna+shop@b.example"},
		{"010001942f3c77aa-1b2c@ses.example", "0100018f5ed6aa01-9a0e@ses.example"},
		{"", ""},
	} {
		if a, b := Canonical(same[0]), Canonical(same[1]); a != b {
			t.Errorf("%s is %s, and %s is %s", same[0], a, same[1], b)
		}
	}
	for _, other := range [][2]string{
		{"anna@b.example", "bert@b.example"},
		{"anna1@b.example", "anna2@b.example"},
		{"anna@b.example", "anna@c.example"},
		{"SRS0=HHH=TT=orig.example=anna@fwd.example", "SRS0=HHH=TT=orig.example=bert@fwd.example"},
		{"SRS0=HHH=TT=one.example=anna@fwd.example", "SRS0=HHH=TT=two.example=anna@fwd.example"},
		{"prvs=1234abcdef=anna@b.example", "prvs=1234abcdef=bert@b.example"},
		{"+anna@b.example", "+bert@b.example"},
	} {
		if a, b := Canonical(other[0]), Canonical(other[1]); a == b {
			t.Errorf("%s and %s are both %s", other[0], other[1], a)
		}
	}
}

// Parts that run into each other are not the same triple.
func TestKeysDoNotRunTogether(t *testing.T) {
	a := Contact{Pool: "p", Sender: "ab@x", Recipient: "c@y"}.keys([16]byte{})
	b := Contact{Pool: "pa", Sender: "b@x", Recipient: "c@y"}.keys([16]byte{})
	if a[0] == b[0] || a[0] == (Contact{Pool: "p", Sender: "ab@x", Recipient: "c@y"}).keys([16]byte{1})[0] {
		t.Error("two triples, or two seeds, have one key")
	}
}

type away struct{}

func (away) Get(context.Context, []Key) (Entry, bool, error)        { return Entry{}, false, errAway }
func (away) Put(context.Context, []Key, Entry, time.Duration) error { return nil }

var errAway = errors.New("away")

func TestStoreAway(t *testing.T) {
	if _, err := New(away{}, [16]byte{}).Meet(ctx, start, Default, anna); !errors.Is(err, errAway) {
		t.Errorf("got %v", err)
	}
}

func TestLookChangesNothing(t *testing.T) {
	l := New(NewLocal(0), [16]byte{1})
	if a, err := l.Look(ctx, start, Default, anna); err != nil || a.State != First {
		t.Fatalf("%+v %v", a, err)
	}
	if a := meet(t, l, start.Add(time.Hour), anna); a.State != First {
		t.Errorf("looking was a first contact: %s", a.State)
	}
}

// A flood of first contacts forgets nobody who passed.
func TestFloodForgetsNobodyWhoPassed(t *testing.T) {
	store := NewLocal(100)
	l := New(store, [16]byte{1})
	meet(t, l, start, anna)
	meet(t, l, start.Add(time.Hour), anna)
	for i := range 1000 {
		meet(t, l, start.Add(time.Hour), Contact{Pool: "addr:x", Sender: fmt.Sprintf("x%d@y", i), Recipient: "z@example.com"})
	}
	if a := meet(t, l, start.Add(2*time.Hour), anna); a.State != Passed {
		t.Errorf("forgotten: %s", a.State)
	}
	if waiting, passed := store.Len(); waiting > 100 || passed != 1 {
		t.Errorf("%d wait, %d passed", waiting, passed)
	}
	store.Sweep(start.Add(90*24*time.Hour), Default)
	if waiting, passed := store.Len(); waiting+passed != 0 {
		t.Errorf("after the sweep %d wait, %d passed", waiting, passed)
	}
}

// R-CX-02: a flood of first contacts has nobody wait for longer: who was put off
// before it passes in time, and who comes within it is not put off.
func TestFloodHasNobodyWaitLonger(t *testing.T) {
	store := NewLocal(100)
	l := New(store, [16]byte{1})
	meet(t, l, start, anna)
	late := Contact{Pool: "addr:198.51.100.0/24", Sender: "b@sender.example", Recipient: "anna@example.com"}
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		meet(t, l, at, Contact{Pool: "addr:x", HELO: fmt.Sprintf("h%d.example", i), Sender: fmt.Sprintf("x%d@y", i), Recipient: "z@example.com"})
		if i == 300 {
			if a := meet(t, l, at, anna); a.State != Early {
				t.Errorf("a retry within the flood: %s", a.State)
			}
			if a := meet(t, l, at, late); a.State != Away {
				t.Errorf("where there is no room: %s", a.State)
			}
		}
	}
	if a := meet(t, l, start.Add(30*time.Minute), anna); a.State != Passed {
		t.Errorf("who came before the flood: %s", a.State)
	}
	if waiting, _ := store.Len(); waiting > 100 {
		t.Errorf("%d wait", waiting)
	}
	for i := range 200 { // hours later there is room again, and the earliest go
		meet(t, l, start.Add(12*time.Hour), Contact{Pool: "addr:x", Sender: fmt.Sprintf("later%d@y", i), Recipient: "z@example.com"})
	}
	if a := meet(t, l, start.Add(13*time.Hour), Contact{Pool: "addr:x", Sender: "later0@y", Recipient: "z@example.com"}); a.State != Passed {
		t.Errorf("who came when there was room again: %s", a.State)
	}
}

// R-CX-02: a clock that was years ahead and is set right has nobody wait until
// it is there again.
func TestClockThatWentBack(t *testing.T) {
	l := New(NewLocal(0), [16]byte{1})
	meet(t, l, start.AddDate(4, 0, 0), anna)
	if a := meet(t, l, start, anna); a.State != Early || a.Left != Default.Delay || !a.Since.Equal(start) {
		t.Errorf("%+v", a)
	}
	if a := meet(t, l, start.Add(10*time.Minute), anna); a.State != Passed {
		t.Errorf("%+v", a)
	}
}

func TestSnapshot(t *testing.T) {
	store := NewLocal(0)
	l := New(store, [16]byte{1})
	bert := anna
	bert.Recipient = "bert@example.com"
	meet(t, l, start, anna)
	meet(t, l, start.Add(time.Hour), anna)
	meet(t, l, start.Add(time.Hour), bert)
	var file bytes.Buffer
	if err := store.Save(&file); err != nil || store.Dirty() {
		t.Fatal(err, store.Dirty())
	}
	again := NewLocal(0)
	if err := again.Load(bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	l = New(again, [16]byte{1})
	if a := meet(t, l, start.Add(61*time.Minute), anna); a.State != Passed {
		t.Errorf("who passed: %s", a.State)
	}
	if a := meet(t, l, start.Add(65*time.Minute), bert); a.State != Early || a.Left != 5*time.Minute {
		t.Errorf("who waits: %+v", a)
	}
	for cut := range file.Len() {
		if err := NewLocal(0).Load(bytes.NewReader(file.Bytes()[:cut])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for i := range file.Len() {
		b := bytes.Clone(file.Bytes())
		b[i] ^= 1
		if err := NewLocal(0).Load(bytes.NewReader(b)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	}
}

// R-BW-23, R-RN-17: who never came back for three mails is named, who came back
// once is not, and bots without a name hide nobody.
func TestReturns(t *testing.T) {
	r, l := NewReturns(), New(NewLocal(0), [16]byte{1})
	see := func(after time.Duration, pool string, mail int) {
		c := Contact{Pool: pool, Sender: fmt.Sprintf("u%cx@s.example", 'a'+mail), Recipient: "anna@example.com"}
		now := start.Add(after)
		r.Note(now, Default.Window, c, meet(t, l, now, c))
	}
	for mail := range 3 {
		see(0, "name:never.example", mail)
		see(time.Minute, "name:never.example", mail) // too early is not back
		see(0, "spf:good.example", mail)
		see(0, "addr:192.0.2.0/24", mail)
	}
	see(0, "name:once.example", 0)
	see(time.Hour, "spf:good.example", 1)
	if rep := r.Report(start.Add(time.Hour), Default.Window); rep.Pools != 1 || rep.Never != 0 {
		t.Errorf("before the window is over: %+v", rep)
	}
	var file bytes.Buffer
	if err := r.Save(&file); err != nil {
		t.Fatal(err)
	}
	r = NewReturns()
	if err := r.Load(&file); err != nil {
		t.Fatal(err)
	}
	rep := r.Report(start.Add(48*time.Hour), Default.Window)
	if rep.Pools != 3 || rep.Never != 2 || len(rep.Lost) != 1 || rep.Lost[0].Pool != "name:never.example" || rep.Lost[0].Mails != 3 {
		t.Errorf("after the window: %+v", rep)
	}
	if want := 10_000 * 2.0 / 3; rep.PerTenThou != want {
		t.Errorf("%v of 10,000, want %v", rep.PerTenThou, want)
	}
}

func BenchmarkMeet(b *testing.B) {
	l := New(NewLocal(0), [16]byte{1})
	for i := 0; b.Loop(); i++ {
		c := Contact{Pool: "spf:sender.example", HELO: "out.sender.example", Sender: fmt.Sprintf("u%d@sender.example", i), Recipient: "anna@example.com"}
		if _, err := l.Meet(ctx, start, Default, c); err != nil {
			b.Fatal(err)
		}
	}
}

// A damaged file of who came back is an empty one, and no reason to end.
func TestReturnsOfADamagedFile(t *testing.T) {
	for _, text := range []string{"null", `{"name:a.example":null}`} {
		r := NewReturns()
		if err := r.Load(bytes.NewReader([]byte(text))); err != nil {
			t.Fatal(err)
		}
		r.Note(start, Default.Window, Contact{Pool: "name:b.example", Sender: "a@b.example"}, Answer{State: First})
		if rep := r.Report(start.Add(2*Default.Window), Default.Window); rep.Pools != 1 {
			t.Errorf("%s: %+v", text, rep)
		}
	}
}

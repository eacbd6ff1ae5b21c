package guard

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Alarm is something wrong with guard that a person has to see to.
type Alarm struct {
	Name string `json:"name"` // one of few: a name is raised and cleared once
	Text string `json:"text"` // ends with what to do
}

// Guard speaks to no collector: it holds the kernel, and nothing that it does
// not need for that is in its process. The mail role, which does, asks it over
// the offence socket: a message like an offence, with a reason that is none,
// perhaps a number in place of the ref, and no socket. The answer is one message
// too.
const (
	askAlarms    = 255
	askStanding  = 254             // see appendQuestion
	askSamples   = 253             // as askAlarms
	askEvents    = 252             // with a number
	askFigures   = 251             // as askAlarms
	alarmsWithin = 5 * time.Second // engines are asked how they are
	alarmsEvery  = time.Second     // guard looks at itself for the mail role
	maxAlarms    = 64 << 10        // bytes of the answer
	maxAlarmText = 2 << 10
)

func ask(what byte, number uint64) []byte {
	b := append([]byte{wireVersion, what}, make([]byte, 6)...)
	return binary.LittleEndian.AppendUint64(b, number)
}

// parseAsk is the inverse of ask.
func parseAsk(b []byte) (what byte, number uint64, ok bool) {
	if len(b) != requestSize {
		return 0, 0, false
	}
	what, number = b[1], binary.LittleEndian.Uint64(b[8:])
	ok = what == askEvents || number == 0 && (what == askAlarms || what == askSamples || what == askFigures)
	return what, number, ok && bytes.Equal(b, ask(what, number))
}

// recent keeps an answer for a while: engines are not asked more often than
// alarmsEvery, however often the mail role asks.
type recent struct {
	mu     sync.Mutex
	answer []byte
	at     time.Time
}

func (r *recent) recent(now time.Time, fresh func() []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer == nil || now.Sub(r.at) >= alarmsEvery || now.Before(r.at) {
		r.answer, r.at = fresh(), now
	}
	return r.answer
}

// alarmList is everything that is wrong now.
func (s *Server) alarmList(engines []EngineStatus) (all []Alarm) {
	add := func(name string, texts ...string) {
		for _, t := range texts {
			all = append(all, Alarm{name, t})
		}
	}
	add("start", s.alarms...)
	all = append(all, s.firewallAlarms(engines)...)
	all = append(all, s.fullAlarms()...)
	add("interfaces", *s.missing.Load()...)
	all = append(all, s.cfg.Alarms()...)
	if undone := s.trials.undone(); len(undone) > 0 {
		add("geo_unconfirmed", fmt.Sprintf("%s: in the file, tried, not confirmed in time and so not in force: weir reload tries again and weir confirm keeps it, or take it out of the file", strings.Join(undone, ", ")))
	}
	if err := s.ledger.Problem(); err != nil {
		add("ledger", fmt.Sprintf("bans are not saved: %v (make room on the disk; it is tried again)", err))
	}
	if s.ledger.Hurried() {
		add("hurry", "more than 200 bans were made within a minute: until that is over new ones last an hour; see weir top whether it is an attack, and weir allow for who is none")
	}
	if p := s.currentPolicy(); slices.ContainsFunc(engines, func(e EngineStatus) bool { return e.Flood }) {
		add("flood", fmt.Sprintf("more than %d connections are opened in a second: networks are held to four times what one source may open (firewall.flood_per_second); weir allow lets in whom you know", p.FloodPerSecond))
	}
	for _, host := range s.hosts.unknown(s.currentPolicy().hosts()) {
		add("hosts", fmt.Sprintf("the address of %s is not known, so nothing protects it from bans: check its name and the DNS servers", host))
	}
	return all
}

// joined has each name once, with all that is wrong under it.
func joined(all []Alarm) []Alarm {
	list := []Alarm{}
	at := map[string]int{}
	for _, a := range all {
		if i, ok := at[a.Name]; ok {
			list[i].Text += "; " + a.Text
			continue
		}
		at[a.Name] = len(list)
		list = append(list, a)
	}
	for i, a := range list {
		if clipped := clip(a.Text, maxAlarmText); clipped != a.Text {
			list[i].Text = clipped + " (see weir status)"
		}
	}
	return list
}

// clip cuts s to so many bytes, not inside of a character.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}

func (s *Server) alarmsAnswer(ctx context.Context) []byte {
	b, err := json.Marshal(joined(s.alarmList(s.engines.status(ctx))))
	if err != nil {
		s.cfg.Log.Error("alarms cannot be told", "error", err)
		return []byte("[]")
	}
	return b
}

// Alarms asks guard what is wrong. An error means that it does not answer.
func (c *Client) Alarms(ctx context.Context) (list []Alarm, err error) {
	err = c.tell(ctx, ask(askAlarms, 0), &list)
	return list, err
}

// tell asks for what is told as JSON.
func (c *Client) tell(ctx context.Context, question []byte, v any) error {
	ctx, cancel := context.WithTimeout(ctx, alarmsWithin)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", c.path)
	if err != nil {
		return fmt.Errorf("reach guard: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	b := make([]byte, maxAlarms)
	n := 0
	if _, err = conn.Write(question); err == nil {
		n, err = conn.Read(b)
	}
	if err != nil {
		return fmt.Errorf("ask guard: %w", err)
	}
	if err := json.Unmarshal(b[:n], v); err != nil {
		return fmt.Errorf("read what guard says: %w: %.40q", err, b[:n])
	}
	return nil
}

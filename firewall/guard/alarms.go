package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Alarm is something wrong with guard that a person has to see to.
type Alarm struct {
	Name string `json:"name"` // one of few: a name is raised and cleared once
	Text string `json:"text"` // ends with what to do
}

// Guard speaks to no collector: it holds the kernel, and nothing that it does
// not need for that is in its process. The mail role, which does, asks it over
// the offence socket: a message like an offence, with a reason that is none
// and no socket. The answer is one message too.
const (
	askAlarms    = 255
	askStanding  = 254             // see appendQuestion
	askSamples   = 253             // as askAlarms
	alarmsWithin = 5 * time.Second // engines are asked how they are
	alarmsEvery  = time.Second     // guard looks at itself for the mail role
	maxAlarms    = 64 << 10        // bytes of the answer
	maxAlarmText = 2 << 10
)

func ask(what byte) []byte {
	return append([]byte{wireVersion, what}, make([]byte, requestSize-2)...)
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
	add("interfaces", *s.missing.Load()...)
	add("geo", s.cfg.Alarms()...)
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
		if len(a.Text) > maxAlarmText {
			list[i].Text = strings.ToValidUTF8(a.Text[:maxAlarmText], "") + " … (see weir status)"
		}
	}
	return list
}

// alarmsAnswer is the answer to askAlarms. It is made anew once a second
// at most, however often the mail role asks.
func (s *Server) alarmsAnswer(ctx context.Context) []byte {
	s.asked.Lock()
	defer s.asked.Unlock()
	if now := s.cfg.Now(); s.answer == nil || now.Sub(s.answered) >= alarmsEvery || now.Before(s.answered) {
		b, err := json.Marshal(joined(s.alarmList(s.engines.status(ctx))))
		if err != nil {
			s.cfg.Log.Error("alarms cannot be told", "error", err)
			return []byte("[]")
		}
		s.answer, s.answered = b, now
	}
	return s.answer
}

// Alarms asks guard what is wrong. An error means that it does not answer.
func (c *Client) Alarms(ctx context.Context) (list []Alarm, err error) {
	return list, c.tell(ctx, askAlarms, &list)
}

// tell asks for what is told as JSON.
func (c *Client) tell(ctx context.Context, what byte, v any) error {
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
	if _, err = conn.Write(ask(what)); err == nil {
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

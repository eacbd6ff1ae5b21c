package smtp_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"mailweir/smtp"
	"mailweir/smtp/check"
)

// TestTranscripts plays the dialogues of testdata/transcripts against a whole
// Server on loopback, with real sinks behind it. One line, one step:
//
//	# text            a comment
//	config k=v …      of the policy, before the first other step
//	connect [ADDR]    a client connects, from 127.0.0.1 or ADDR
//	C: text           it sends a line; \r \n \0 are escapes
//	S: text           it reads this line; … at its end stands for anything
//	tls               it says STARTTLS and shakes hands
//	closed            it finds the connection closed
//	hangup            it leaves
//	later D           the server's clock, which stands with greylist=…, goes on by D
//	backend CODE …    how the office answers messages from now on; ok: takes them
//	record OUTCOME REASON [rcpt REASON …]   the next record; - is no reason
//	mail FROM TO …    the next message that the office took
//	no mail           it took none, or no further one
//
// At the end of each, every refusal that the client read must carry the ref of
// a record that tells the same reply (R-BW-E01 and on: reply and record agree).
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play(t, strings.Split(string(text), "\n"))
		})
	}
}

var catalogueRow = regexp.MustCompile(`\bE(\d\d)\b`)

// Every row of the catalogue of requirements is played.
func TestTranscriptsHaveTheCatalogue(t *testing.T) {
	files, _ := filepath.Glob("testdata/transcripts/*.txt")
	rows := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range catalogueRow.FindAllStringSubmatch(string(text), -1) {
			rows[m[1]] = true
		}
	}
	for i := 1; i <= 26; i++ {
		if row := fmt.Sprintf("%02d", i); !rows[row] {
			t.Errorf("no transcript plays R-BW-E%s", row)
		}
	}
}

type player struct {
	*testing.T
	line    int
	change  []func(*world)
	world   *world
	client  *dialogue
	clients []*dialogue
	records int
	mails   int
}

func play(t *testing.T, script []string) {
	p := &player{T: t}
	for i, line := range script {
		p.line = i + 1
		if line = strings.TrimRight(line, " "); line == "" || line[0] == '#' {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		p.step(verb, rest)
	}
	p.agree()
}

func (p *player) fatalf(format string, args ...any) {
	p.Helper()
	p.Fatalf("line %d: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *player) step(verb, rest string) {
	if verb == "config" {
		p.configure(rest)
		return
	}
	if p.world == nil {
		p.world = newWorld(p.T, func(w *world) {
			w.opts.Policy.TLS = selfSigned(p.T)
			for _, f := range p.change {
				f(w)
			}
		})
	}
	switch verb {
	case "connect":
		p.connect(rest)
	case "C:":
		p.client.send(strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00").Replace(rest) + "\r\n")
	case "S:":
		p.expect(rest)
	case "tls":
		p.client.startTLS()
	case "closed":
		if s, err := p.client.line(); err == nil {
			p.fatalf("the server went on: %q", s)
		}
	case "hangup":
		p.client.nc.Close()
	case "later":
		d, err := time.ParseDuration(rest)
		if err != nil {
			p.fatalf("%v", err)
		}
		p.world.later.Add(int64(d))
	case "backend":
		p.backend(rest)
	case "record":
		p.record(strings.Fields(rest))
	case "mail":
		p.mail(strings.Fields(rest))
	case "no":
		if n := len(p.world.office.taken()); n != p.mails {
			p.fatalf("the office took %d messages, want %d", n, p.mails)
		}
	default:
		p.fatalf("no such step: %s", verb)
	}
}

func (p *player) configure(rest string) {
	for _, word := range strings.Fields(rest) {
		key, value, _ := strings.Cut(word, "=")
		p.change = append(p.change, func(w *world) {
			n, _ := strconv.Atoi(value)
			switch key {
			case "profile", "reject_score", "set", "rdns", "class", "helo_name", "sender", "rdns_name", "rhsbl", "spf", "dkim", "dmarc", "list", "greylist", "entry", "geo_reject":
				w.policy(key, value)
			case "fault":
				w.opts.Policy.Chain.Rcpt = append(w.opts.Policy.Chain.Rcpt, smtp.Link{Name: "recipient", Judge: faulty{}})
			case "observe":
				w.opts.Policy.Observe = value == "true"
			case "maintenance":
				w.opts.Maintenance = func() string { return value }
			case "max_connections":
				w.opts.Policy.MaxConnections = n
			case "open":
				w.opts.Policy.PerSource.Open = n
			case "new_per_minute":
				w.opts.Policy.PerSource.NewPerMinute = n
			case "recipients":
				w.opts.Policy.Chain = check.Chain(n)
			case "command":
				w.opts.Policy.Timeouts.Command, _ = time.ParseDuration(value)
			case "session":
				w.opts.Policy.Timeouts.Session, _ = time.ParseDuration(value)
			case "greet_wait":
				w.opts.Policy.GreetWait, _ = time.ParseDuration(value)
			default:
				p.fatalf("no such key: %s", key)
			}
		})
	}
}

// faulty is a judge of ours that falls.
type faulty struct{}

func (faulty) Judge(*smtp.Facts) smtp.Verdict { panic("a fault of ours") }

func (p *player) connect(from string) {
	if from == "" {
		from = "127.0.0.1"
	}
	p.client = p.world.dial(from)
	p.clients = append(p.clients, p.client)
}

func (p *player) expect(want string) {
	got, err := p.client.line()
	if err != nil {
		p.fatalf("got %v, want %q", err, want)
	}
	prefix, open := strings.CutSuffix(want, "…")
	if open && !strings.HasPrefix(got, prefix) || !open && got != want {
		p.fatalf("got %q, want %q", got, want)
	}
}

func (p *player) record(want []string) {
	r := p.world.recorder.wait(p.T, p.records)
	p.records++
	got := []string{string(r.Outcome), orDash(string(r.Reason))}
	if len(want) > 2 {
		got = append(got, "rcpt")
		for _, rcpt := range r.Facts.Rcpts {
			got = append(got, orDash(string(rcpt.Reason)))
		}
	}
	if !slices.Equal(got, want) {
		p.fatalf("record says %q, want %q\n%+v", got, want, r)
	}
}

func (p *player) backend(rest string) {
	code, err := strconv.Atoi(rest)
	if err != nil {
		p.world.office.answer(nil)
		return
	}
	p.world.office.answer(&gosmtp.SMTPError{
		Code: code, EnhancedCode: gosmtp.EnhancedCode{code / 100, 6, 0}, Message: "backend's words",
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (p *player) mail(want []string) {
	mails := p.world.office.taken()
	if len(mails) <= p.mails {
		p.fatalf("the office took no message")
	}
	m := mails[p.mails]
	p.mails++
	if got := append([]string{"<" + m.from + ">"}, m.to...); !slices.Equal(got, want) {
		p.fatalf("the office took %q, want %q", got, want)
	}
}

// agree holds what clients read against what was recorded.
func (p *player) agree() {
	for _, c := range p.clients {
		c.nc.Close()
	}
	p.world.stop()
	records, events := map[string]smtp.Transaction{}, eventsOf(p.world.recorder.all())
	for _, r := range p.world.recorder.all() {
		records[r.Facts.Ref.String()] = r
	}
	replaysAlike(p, p.world, p.world.recorder.all())
	for _, c := range p.clients {
		for _, line := range c.refusals() {
			id, err := refOf(line)
			if err != nil {
				p.Error(err)
				continue
			}
			r, ok := records[id]
			if !ok || !tells(r, line) {
				p.Errorf("no record tells of %q: %+v", line, r)
			}
			if told := r.Reply.Line() == line || len(r.Facts.Rcpts) > 0 && slices.ContainsFunc(r.Facts.Rcpts, func(t smtp.Recipient) bool { return t.Reply.Line() == line }); told && !events.tell(id, line) {
				p.Errorf("no event tells of %q: %+v", line, events)
			}
			if !p.world.recorder.announced[r.Facts.Ref] && !strings.Contains(line, "stopping") {
				p.Errorf("%q was said before its ref was safe", line)
			}
		}
	}
}

// tells says whether a record has a reply: as the one that decided, as that to
// a recipient, or as one of the refusals around the transaction.
func tells(r smtp.Transaction, line string) bool {
	if r.Reply.Line() == line {
		return true
	}
	for _, rcpt := range r.Facts.Rcpts {
		if rcpt.Reply.Line() == line {
			return true
		}
	}
	for _, c := range r.Checks {
		if c.Action != "pass" && strings.HasSuffix(c.Detail, line[:3]) {
			return true
		}
	}
	return false
}

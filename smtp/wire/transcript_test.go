package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailweir/smtp/reply"
)

// TestTranscripts plays the dialogues of testdata/transcripts against wire and
// a real go-smtp server. One line, one step; time is synctest's.
//
//	# text          a comment
//	config k=v …    of the Conn: before the first other step
//	C: text         the client sends a line; \r \n \x00 are escapes, and lines
//	                in a row leave in one packet
//	C| text         the same without CRLF
//	S: text         the server says this line; … at its end stands for anything
//	wait 5m         time passes
//	tls             both shake hands
//	bye             the session says Bye with 421 4.3.2
//	closed          the server has closed the connection
//	hangup          the client closes it
//	slips a b       the slips so far, in order
//	mail text       the next message that the backend took: from -> to: "body"
//	no mail         it took none, or no further one
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { play(t, strings.Split(string(text), "\n")) })
		})
	}
}

// player is one dialogue.
type player struct {
	t       *testing.T
	line    int
	cfg     Config
	gate    time.Duration
	tease   bool
	ev      *events
	backend *backend
	conn    *Conn
	client  net.Conn
	in      *bufio.Reader
	out     []byte
	mails   int
}

func play(t *testing.T, script []string) {
	p := &player{t: t, ev: &events{}, backend: &backend{}, cfg: Config{Hostname: "mx.example.net", MaxMessageSize: 1000}}
	defer func() {
		if p.client != nil {
			p.client.Close()
		}
	}()
	for i, line := range script {
		p.line = i + 1
		if line = strings.TrimRight(line, " "); line == "" || line[0] == '#' {
			continue
		}
		p.step(line)
	}
}

func (p *player) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("line %d: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *player) step(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "config" {
		p.configure(rest)
		return
	}
	p.start()
	if verb != "C:" && verb != "C|" {
		p.flush()
	}
	switch verb {
	case "C:":
		p.out = append(p.out, p.unescape(rest)+"\r\n"...)
	case "C|":
		p.out = append(p.out, p.unescape(rest)...)
	case "S:":
		p.expect(rest)
	case "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			p.fatalf("%v", err)
		}
		time.Sleep(d)
	case "tls":
		p.handshake()
	case "bye":
		p.conn.Bye(reply.Shutdown.Reply())
	case "hangup":
		p.client.Close()
		synctest.Wait()
	case "closed":
		p.expectClosed()
	case "slips":
		synctest.Wait()
		if got := p.ev.slipped(); got != rest {
			p.fatalf("slips are %q, want %q", got, rest)
		}
	case "mail":
		p.expectMail(rest)
	case "no":
		synctest.Wait()
		if got := p.backend.delivered(); len(got) != p.mails {
			p.fatalf("unexpected mail %v", got[p.mails:])
		}
	default:
		p.fatalf("unknown step %q", line)
	}
}

func (p *player) configure(settings string) {
	for _, s := range strings.Fields(settings) {
		key, value, _ := strings.Cut(s, "=")
		n, _ := strconv.Atoi(value)
		d, _ := time.ParseDuration(value)
		switch key {
		case "hide":
			p.cfg.Hide = strings.Split(value, ",")
		case "tls":
			p.cfg.TLS = testTLS(p.t)
		case "strict":
			p.cfg.RefuseBareEnds = true
		case "max_size":
			p.cfg.MaxMessageSize = int64(n)
		case "max_errors":
			p.cfg.MaxErrors = n
		case "max_junk":
			p.cfg.MaxJunk = n
		case "session":
			p.cfg.Timeouts.Session = d
		case "data_total":
			p.cfg.Timeouts.DataTotal = d
		case "gate":
			p.gate = d
		case "tease":
			p.tease = true
		default:
			p.fatalf("unknown setting %q", s)
		}
	}
}

// start connects, once.
func (p *player) start() {
	if p.conn != nil {
		return
	}
	client, server := net.Pipe()
	p.client, p.in = client, bufio.NewReader(client)
	p.conn = New(server, p.cfg, p.ev)
	go func() {
		if p.tease {
			p.conn.Tease("mx.example.net")
		}
		if p.gate > 0 {
			if _, err := p.conn.Gate(context.Background(), p.gate); err != nil {
				return
			}
		}
		serve(p.t, p.conn, p.backend)
	}()
}

// flush sends what the client said. The server may answer meanwhile, and a
// pipe has no room for it, so the writing goes on by itself.
func (p *player) flush() {
	if len(p.out) == 0 {
		return
	}
	out := p.out
	p.out = nil
	client := p.client
	go client.Write(out)
	synctest.Wait()
}

func (p *player) expect(want string) {
	p.client.SetReadDeadline(time.Now().Add(time.Second))
	got, err := p.in.ReadString('\n')
	if err != nil {
		p.fatalf("want %q, got %q and %v", want, got, err)
	}
	got, ok := strings.CutSuffix(got, "\r\n")
	prefix, open := strings.CutSuffix(want, "…")
	if !ok || got != want && !(open && strings.HasPrefix(got, prefix)) {
		p.fatalf("want %q, got %q", want, got)
	}
}

func (p *player) expectClosed() {
	p.client.SetReadDeadline(time.Now().Add(time.Second))
	if rest, err := io.ReadAll(p.in); err != nil || len(rest) > 0 {
		p.fatalf("want a closed connection, got %q and %v", rest, err)
	}
	synctest.Wait()
	if p.conn.Cause() == nil {
		p.fatalf("the connection is closed without a cause")
	}
}

func (p *player) expectMail(want string) {
	synctest.Wait()
	all := p.backend.delivered()
	if p.mails >= len(all) {
		p.fatalf("no mail; bodies ended with %v", p.backend.failures())
	}
	got := all[p.mails].String()
	p.mails++
	if got != want {
		p.fatalf("got  mail %s\nwant mail %s", got, want)
	}
}

func (p *player) handshake() {
	tc := tls.Client(p.client, &tls.Config{InsecureSkipVerify: true}) // the certificate is not what is tested
	if err := tc.Handshake(); err != nil {
		p.fatalf("handshake: %v", err)
	}
	p.client, p.in = tc, bufio.NewReader(tc)
}

func (p *player) unescape(s string) string {
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		p.fatalf("%v", err)
	}
	return s
}

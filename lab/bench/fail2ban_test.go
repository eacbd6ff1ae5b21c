package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// BenchmarkFail2ban is from the reply to the guess that convicts to the beginning
// of the first connect that is refused or not answered, ours beside fail2ban on
// Postfix's log. Both have the same threshold and the same list of those who
// exist; ours convicts sooner while the domain is being guessed at. A guesser
// names five a connection, so that Postfix does not slow him.
func BenchmarkFail2ban(b *testing.B) {
	s := newSite(b)
	s.writeRecipients(b)
	guesser := s.Host("attacker", attackers.String())
	sides := [2]side{s.ours(b, "fail2ban.toml"), s.theirs(b, "refuse-file.cf")}
	stamp := newStamp(b, s.weir.Binary())
	s.fail2ban(b)

	const maxRetry = 25
	convicted := [2]func(guesses int) bool{
		func(int) bool { _, err := stamp.take(); return err == nil },
		func(guesses int) bool { return guesses == maxRetry },
	}
	var took [2][]time.Duration
	for round := range rounds {
		for i, side := range sides {
			g := guessing{
				from: attackerAt(round), to: smtpPort(side.host), round: round, convicted: convicted[i],
			}
			err := guesser.Do(g.run)
			if err != nil {
				b.Fatalf("%s, round %d: %v", side.name, round, err)
			}
			b.Logf("round %d, %s: %d guesses, refused after %v", round, side.name, g.guesses, g.took)
			took[i] = append(took[i], g.took)
		}
	}
	for i, name := range []string{sides[0].name, "fail2ban, pyinotify, " + sides[1].name} {
		slices.Sort(took[i])
		b.Logf("%s; %s: from the convicting reply to the first connect refused: %s", machine(), name, least(took[i]))
	}
	b.Logf("ours bans before it replies: the first connect is too late already")
	b.Logf("in theirs: up to %v until the next connect comes", connectPause)
	b.ReportMetric(float64(took[0][rounds/2].Microseconds())/1000, "ms-ours")
	b.ReportMetric(float64(took[1][rounds/2].Microseconds())/1000, "ms-peer")
	b.ReportMetric(0, "ns/op")
	results.add("from the convicting reply to the first refused connect", least(took[0]), least(took[1]), "peer: fail2ban on Postfix's log")
}

// least is the least, and the middle and the most of sorted times.
func least(d []time.Duration) string {
	const to = 10 * time.Microsecond
	return fmt.Sprintf("%v (%v, %v)", d[0].Round(to), d[len(d)/2].Round(to), d[len(d)-1].Round(to))
}

// guessing is one guesser, from his first guess until he is kept out.
type guessing struct {
	from      netip.Addr
	to        netip.AddrPort
	round     int
	convicted func(guesses int) bool // asked once after each reply

	guesses int
	took    time.Duration
}

const (
	guessesPerSession = 5
	mostGuesses       = 60 // bounds a guesser whom nobody convicts

	// connectPause is between two connects that look for the ban. Those that
	// are let in are lines of a log, of which the peer has to read each.
	connectPause = 5 * time.Millisecond
	// unanswered is how long a connect waits. In this lab an answer takes less
	// than a thousandth of it, and a second connect has to bear it out.
	unanswered  = 200 * time.Millisecond
	banPatience = 20 * time.Second
)

func (g *guessing) run() error {
	for g.guesses < mostGuesses {
		done, err := g.session()
		if err != nil {
			return err
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("%d guesses convicted nobody", g.guesses)
}

// session has the guesses of one connection, and when one of them convicts,
// waits for the ban.
func (g *guessing) session() (done bool, err error) {
	nc, err := dialWithin(g.from, g.to, 5*time.Second)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return false, err
	}
	s := newSpeaker(nc)
	s.expect("220")
	s.ask("EHLO pool.isp.example", "250")
	s.ask("MAIL FROM:<info@sender.example>", "250")
	for range guessesPerSession {
		if s.err != nil {
			return false, fmt.Errorf("after %d guesses: %w", g.guesses, s.err)
		}
		s.say(fmt.Sprintf("RCPT TO:<guess%d.%d@example.com>", g.round, g.guesses))
		s.refusal()
		replied := time.Now() // or reset: on our side that may overtake the reply
		g.guesses++
		if g.convicted(g.guesses) {
			return true, g.wait(replied)
		}
	}
	return false, s.err
}

// refusal reads one of 550, or of 451: so ours answers strangers while a domain
// is being guessed at, and counts the guess.
func (s *speaker) refusal() {
	if s.err != nil {
		return
	}
	line, err := s.in.ReadString('\n')
	if s.err = err; err == nil && !strings.HasPrefix(line, "550 5.1.1") && !strings.HasPrefix(line, "451 4.7.1") {
		s.err = fmt.Errorf("heard %q instead of a refusal", line)
	}
}

// wait connects until that fails twice in a row, and takes the time from the
// reply to the beginning of the first of them.
func (g *guessing) wait(replied time.Time) error {
	for time.Since(replied) < banPatience {
		start := time.Now()
		first := g.connects()
		if !first && !g.connects() {
			g.took = start.Sub(replied)
			return nil
		}
		time.Sleep(connectPause)
	}
	return fmt.Errorf("after %d guesses no connect was refused for %v", g.guesses, banPatience)
}

func (g *guessing) connects() bool {
	nc, err := dialWithin(g.from, g.to, unanswered)
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

// fail2ban starts it on the host of the peer, on Postfix's log there. Its
// configuration is Debian's and peers/fail2ban.local.
func (s *site) fail2ban(b *testing.B) *lab.Process {
	b.Helper()
	root := s.peer.Root("fail2ban", "fail2ban", "python3-pyinotify", "nftables")
	etc := root.Path("/etc/fail2ban")
	err := os.CopyFS(etc, os.DirFS(root.Packages("etc/fail2ban")))
	if err == nil {
		err = os.RemoveAll(path.Join(etc, "jail.d")) // Debian's own, for sshd
	}
	if err == nil {
		err = os.WriteFile(path.Join(etc, "jail.local"), []byte(peerFile(b, "fail2ban.local")), 0o644)
	}
	if err == nil { // the host's own name, which fail2ban looks up with the first line
		hosts := fmt.Sprintf("127.0.0.1 localhost\n%v mx2.example.com mx2\n", s.peer.Addr())
		err = os.WriteFile(root.Path("/etc/hosts"), []byte(hosts), 0o644)
	}
	if err == nil {
		err = s.peer.Do(func() error {
			return unix.Mount("/srv/postfix/var/log", "/srv/fail2ban/srv", "", unix.MS_BIND, "")
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"/var/lib/fail2ban", "/run/fail2ban"} {
		if err := os.MkdirAll(root.Path(dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	p, err := s.peer.Start("fail2ban", root.Command("/usr/bin/fail2ban-server", "-xf", "--logtarget", "STDOUT", "start"))
	if err != nil {
		b.Fatal(err)
	}
	s.Eventually(30*time.Second, "fail2ban watches Postfix's log", func() bool {
		select {
		case <-p.Done():
			b.Fatalf("fail2ban ended at once, exit code %d: %s", p.ExitCode(), p.Log())
		default:
		}
		out, err := s.peer.RunCommand(patient(b), root.Command("/usr/bin/fail2ban-client", "status", "postfix"))
		return err == nil && out != ""
	})
	return p
}

package command

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/smtp/relay"
)

//go:embed setup.toml
var setupConfig string

func (c *cli) setupCommand() *cobra.Command {
	var file, seed string
	var anew bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "ask what has to be known, and write the configuration file",
		Long: `Ask for what the configuration file cannot do without: at most six questions, each with
a default in brackets that return takes, each answer checked at once. A file that is there
is kept but for the answers, or with --anew set aside as weir.toml.before. With --seed nothing is asked: FILE is a whole configuration
file, is checked as weir check does, and takes the place of none: a file that is there and
says something else is left alone, with exit status 1. "-" is standard input.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seed != "" {
				return c.seed(seed, file)
			}
			return c.setup(cmd.Context(), file, anew)
		},
	}
	configVar(cmd, &file)
	cmd.Flags().StringVar(&seed, "seed", "", "take this configuration file in place of answers")
	cmd.Flags().BoolVar(&anew, "anew", false, "ask everything, whatever the file says")
	cmd.MarkFlagsMutuallyExclusive("seed", "anew")
	return cmd
}

// seed makes a file that was made elsewhere ours.
func (c *cli) seed(from, file string) error {
	var text []byte
	var err error
	if from == "-" {
		text, err = io.ReadAll(io.LimitReader(c.in, 1<<20))
	} else {
		text, err = os.ReadFile(from)
	}
	if err != nil {
		return fmt.Errorf("read the seed: %w", err)
	}
	f, cfg, problems := config.Parse(file, text)
	if !problems.Bad() {
		problems = append(problems, settings.Problems(f, cfg)...)
	}
	if err := problems.Err(); err != nil {
		return fmt.Errorf("the seed is not taken: %w", err)
	}
	old, err := os.ReadFile(file)
	switch {
	case err == nil && string(old) == string(text):
		c.say("%s is as the seed says", file)
		return nil
	case err == nil:
		return fmt.Errorf("%s is there and says something else than the seed: it stays; remove it first if the seed shall count", file)
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look at the configuration: %w", err)
	}
	return c.writeSetup(f)
}

func (c *cli) writeSetup(f *config.File) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the configuration: %w", err)
	}
	_, before := os.Stat(f.Path)
	if err := f.Commit(); err != nil {
		return err
	}
	if before != nil { // a new file: the mail role reads it as its own user
		if _, cfg, _ := config.Parse(f.Path, f.Text); cfg.Users.Mail != "" && os.Geteuid() == 0 {
			if user, err := settings.LookupUser(cfg.Users.Mail); err == nil {
				os.Chown(f.Path, 0, int(user.Gid)) // weir check says when it cannot be read
			}
		}
	}
	c.say("written: %s", f.Path)
	return nil
}

// asked is one thing that is asked.
type asked struct {
	ask     string                                    // without the colon
	initial func(w *wizard) string                    // the default; "": there is none
	empty   bool                                      // nothing is an answer too, given as "-"
	check   func(ctx context.Context, a string) error // beyond what the file's own checks say; a doubt, not a no
	set     func(w *wizard, a string) error
}

// questions are all that is asked, in their order: six at most.
var questions = []asked{
	{
		ask:     "Name of this host, as others look it up",
		initial: func(w *wizard) string { return knownName(w.cfg.Hostname) },
		check:   hasAddress,
		set:     func(w *wizard, a string) error { return w.set("hostname", a) },
	},
	{
		ask:     "Domain that mail comes in for (more of them later)",
		initial: func(w *wizard) string { return w.domain() },
		set:     func(w *wizard, a string) error { return w.setDomain(a) },
	},
	{
		ask:     "Mail server behind, that has its mailboxes (HOST or HOST:PORT)",
		initial: func(w *wizard) string { return w.server() },
		check:   speaksSMTP,
		set:     func(w *wizard, a string) error { return w.setServer(a) },
	},
	{
		ask:     "Networks never to be banned, with blanks between (yours, monitoring); - for none",
		initial: func(w *wizard) string { return strings.Join(prefixTexts(w.cfg.Firewall.NeverBan), " ") },
		empty:   true,
		set:     func(w *wizard, a string) error { return w.setRaw("firewall.never_ban", list(strings.Fields(a))) },
	},
	{
		ask:     "Syslog collector (tls://HOST:6514, tcp://HOST:601, udp://HOST:514); - for none",
		initial: func(w *wizard) string { return w.collector() },
		empty:   true,
		check:   collects,
		set:     func(w *wizard, a string) error { return w.setCollector(a) },
	},
	{
		ask:     "Observe first: judge and record, refuse and drop nothing (yes or no)",
		initial: func(w *wizard) string { return map[bool]string{true: "yes", false: "no"}[w.cfg.Observe] },
		set:     func(w *wizard, a string) error { return w.setObserve(a) },
	},
}

// wizard is a configuration that grows by answers.
type wizard struct {
	file  *config.File
	cfg   config.Config
	named string // the domain
}

// newWizard begins with the file, or where there is none with the one of
// setup.toml. Of a file with mistakes not all could be read, and what was not
// read would be asked, and answered, as if it did not stand there. Anew begins
// as if there were none.
func newWizard(path string, anew bool) (*wizard, error) {
	w := &wizard{}
	text, err := os.ReadFile(path)
	if anew || errors.Is(err, os.ErrNotExist) {
		w.file, w.cfg, _ = config.Parse(path, []byte(setupConfig)) // it lacks what is asked
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the configuration: %w", err)
	}
	var problems config.Problems
	w.file, w.cfg, problems = config.Parse(path, text)
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("%s is there and has mistakes; it is left as it is: mend it by hand, or say --anew to be asked everything: %w", path, err)
	}
	return w, nil
}

func (c *cli) setup(ctx context.Context, path string, anew bool) error {
	w, err := newWizard(path, anew)
	if err != nil {
		return err
	}
	in := c.answers(ctx)
	c.say("%d questions; return takes what is in brackets, Ctrl-C leaves everything as it is.", len(questions))
	for i, q := range questions {
		if err := c.put(ctx, in, w, fmt.Sprintf("%d/%d %s", i+1, len(questions), q.ask), q); err != nil {
			return err
		}
	}
	_, cfg, problems := config.Parse(path, w.file.Text)
	if !problems.Bad() {
		problems = append(problems, settings.Problems(w.file, cfg)...)
	}
	if err := problems.Err(); err != nil {
		return fmt.Errorf("the answers do not make a good file, nothing is written: %w", err)
	}
	for _, p := range problems {
		c.say("note: %s", p)
	}
	if anew {
		if err := setBefore(path); err != nil {
			return err
		}
	}
	if err := c.writeSetup(w.file); err != nil {
		return err
	}
	c.say("Next: weir run, or weir reload where it runs; then weir status.")
	return nil
}

// put asks one question until there is an answer that can be taken. What only
// the network doubts can be insisted on, by giving it again.
func (c *cli) put(ctx context.Context, in *bufio.Reader, w *wizard, ask string, q asked) error {
	doubted := ""
	for {
		initial := q.initial(w)
		if doubted != "" {
			initial = doubted
		}
		brackets := ""
		if initial != "" {
			brackets = " [" + printable(initial) + "]"
		}
		fmt.Fprintf(c.out, "%s%s: ", ask, brackets)
		answer, err := readAnswer(in)
		if err != nil {
			fmt.Fprintln(c.out)
			return err
		}
		if answer == "" {
			answer = initial
		}
		if answer == "-" && q.empty {
			answer = ""
		}
		if answer == "" && !q.empty {
			c.say("  an answer is needed here")
			continue
		}
		before := *w
		if err := q.set(w, answer); err != nil {
			*w = before
			c.say("  %s", printable(err.Error()))
			continue
		}
		if q.check == nil || answer == "" || answer == doubted {
			return nil
		}
		if err := q.check(ctx, answer); err != nil {
			*w = before
			doubted = answer
			c.say("  %s; return takes it all the same", printable(err.Error()))
			continue
		}
		return nil
	}
}

// errNoAnswer is the end of input, or Ctrl-C, before the last answer.
var errNoAnswer = errors.New("setup was left before the last answer: nothing is written")

// answers reads lines from the one who answers, until ctx ends.
func (c *cli) answers(ctx context.Context) *bufio.Reader {
	in := io.LimitReader(c.in, 1<<20)
	if f, ok := c.in.(*os.File); ok {
		in = awaited{ctx, f}
	}
	return bufio.NewReader(in)
}

// awaited reads only what is there: a read of a terminal cannot be stopped, and
// one that was left behind would take the next line from whoever reads then.
type awaited struct {
	ctx context.Context
	f   *os.File
}

func (a awaited) Read(b []byte) (int, error) {
	for a.ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(a.f.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 100); err != nil && err != unix.EINTR {
			return 0, err
		} else if n > 0 {
			return a.f.Read(b)
		}
	}
	return 0, a.ctx.Err()
}

func readAnswer(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", errNoAnswer
	}
	return strings.TrimSpace(line), nil
}

func (w *wizard) set(path, text string) error { return w.setRaw(path, quoted(text)) }

// setRaw takes a value as the file has it. Only what is wrong with this key is
// an error: the others have not been asked for yet.
func (w *wizard) setRaw(path, value string) error {
	f, cfg, problems, err := w.file.Set(path, value)
	if err != nil {
		return err
	}
	for _, p := range problems {
		if !p.Warning && p.Line == f.Problem(path, "", "").Line {
			return fmt.Errorf("%s (%s)", p.What, p.Hint)
		}
	}
	w.file, w.cfg = f, cfg
	return nil
}

// quoted is a text as one of TOML's basic strings: without control characters,
// Go's form is that.
func quoted(s string) string { return strconv.Quote(printable(s)) }

// list is texts as an array.
func list(texts []string) string {
	var all []string
	for _, t := range texts {
		all = append(all, quoted(t))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func prefixTexts[T fmt.Stringer](list []T) (texts []string) {
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return texts
}

func knownName(name string) string {
	if name == "" || strings.HasSuffix(name, ".invalid") {
		host, _ := os.Hostname()
		if name = settings.Qualified(host); strings.HasSuffix(name, ".invalid") {
			return ""
		}
	}
	return name
}

func (w *wizard) domain() string {
	if len(w.cfg.Domains) > 0 {
		return w.cfg.Domains[0].Name
	}
	if _, domain, _ := strings.Cut(w.cfg.Hostname, "."); strings.Contains(domain, ".") {
		return domain
	}
	return ""
}

// setDomain only keeps the name: a domain without a server is no good file.
func (w *wizard) setDomain(name string) error {
	if len(w.cfg.Domains) > 0 && w.cfg.Domains[0].Name != name {
		return errors.New("the file has " + w.cfg.Domains[0].Name + " already: keep it here, and add others to the file")
	}
	domain, err := config.DomainName(name)
	if err != nil || !strings.Contains(domain, ".") {
		return fmt.Errorf("%q is no domain: write the whole of it, such as example.com", name)
	}
	w.named = domain
	return nil
}

func (w *wizard) setServer(answer string) error {
	if err := w.set("backend."+w.backend()+".url", smtpURL(answer)); err != nil {
		return err
	}
	if len(w.cfg.Domains) > 0 {
		return nil
	}
	return w.setRaw(config.Path("domain", w.named, "backends"), list([]string{w.backend()}))
}

// backend is the name of the one that the first domain goes to.
func (w *wizard) backend() string {
	if len(w.cfg.Domains) > 0 && len(w.cfg.Domains[0].Backends) > 0 {
		return w.cfg.Domains[0].Backends[0]
	}
	return "first"
}

func (w *wizard) server() string {
	if b, ok := w.cfg.Backend(w.backend()); ok {
		return strings.TrimPrefix(b.URL, "smtp://")
	}
	return ""
}

// smtpURL is the URL of a mail server that is named as people do.
func smtpURL(answer string) string {
	if strings.Contains(answer, "://") || strings.HasPrefix(answer, "maildir:") {
		return answer
	}
	if _, _, err := net.SplitHostPort(answer); err != nil {
		answer = net.JoinHostPort(strings.Trim(answer, "[]"), "25")
	}
	return "smtp://" + answer
}

func (w *wizard) collector() string {
	for _, s := range w.cfg.Syslog {
		if s.Name == "collector" {
			return s.Target
		}
	}
	return ""
}

func (w *wizard) setCollector(target string) error {
	if target != "" {
		return w.set("syslog.collector.target", target)
	}
	if w.collector() == "" {
		return nil
	}
	f, cfg, _, err := w.file.Delete("syslog.collector")
	if err == nil {
		w.file, w.cfg = f, cfg
	}
	return err
}

func (w *wizard) setObserve(answer string) error {
	switch strings.ToLower(answer) {
	case "yes", "y":
		return w.setRaw("observe", "true")
	case "no", "n":
		return w.setRaw("observe", "false")
	}
	return errors.New("write yes or no")
}

const checkWithin = 5 * time.Second

func hasAddress(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
		return fmt.Errorf("%s has no address in the DNS yet, and others will refuse mail that names it", name)
	}
	return nil
}

// speaksSMTP looks for a greeting.
func speaksSMTP(ctx context.Context, answer string) error {
	u, err := relay.ParseURL(smtpURL(answer))
	if err != nil || u.Network != "tcp" || u.Scheme == "smtps" {
		return err
	}
	conn, err := dialWithin(ctx, "tcp", u.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := bufio.NewReader(io.LimitReader(conn, 1000)).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "220") {
		return fmt.Errorf("%s does not greet as a mail server does: %q", u.Address(), strings.TrimSpace(line))
	}
	fmt.Fprint(conn, "QUIT\r\n")
	return nil
}

// collects looks whether somebody listens; of UDP nobody can say.
func collects(ctx context.Context, target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "tcp" && u.Scheme != "tls" {
		return nil
	}
	conn, err := dialWithin(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	return conn.Close()
}

func dialWithin(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: checkWithin}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%s does not answer (%w)", addr, err)
	}
	return conn, conn.SetDeadline(time.Now().Add(checkWithin))
}

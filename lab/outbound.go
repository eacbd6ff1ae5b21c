package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// OutboundOptions say how a sending server speaks. What it cannot do it leaves.
type OutboundOptions struct {
	NoTLS        bool // and so in clear even where TLS is offered
	NoPipelining bool
	NoChunking   bool
	Main         []string // further lines of the main part of the server's configuration
	Transport    []string // of Exim's transport
}

// An Outbound is a real mail server that sends: it looks up where mail goes,
// keeps what it has until that is taken, and comes again.
type Outbound struct {
	Name string
	Root *Root

	host   *Host
	helo   string
	proc   *Process
	group  int      // of its commands, which are set-group-id where installed
	submit []string // a command that reads a message; sender and recipient follow
	flush  []string // a command that has all mail tried again at once
	log    string   // as the root sees it
	spool  []string // globs of what is in the queue, as the root sees it
}

// Outbounds are the mail servers that Outbound knows.
var Outbounds = []string{"postfix", "exim", "opensmtpd"}

// Outbound starts a mail server under its name of Outbounds; it introduces
// itself as helo. Each on a host of its own: they share /etc and a port.
func (h *Host) Outbound(name, helo string, o OutboundOptions) *Outbound {
	h.lab.t.Helper()
	s := &Outbound{Name: name, host: h, helo: helo}
	var err error
	switch name {
	case "postfix":
		err = s.postfix(o)
	case "exim":
		err = s.exim(o)
	case "opensmtpd":
		err = s.opensmtpd(o)
	default:
		err = fmt.Errorf("no such mail server is known")
	}
	if err != nil {
		h.lab.t.Fatalf("start %s on %s: %v", name, h.Name, err)
	}
	return s
}

// Send gives the server a message with CRLF line ends, as a program on its host
// does.
func (s *Outbound) Send(from, to, message string) error {
	return s.run(strings.ReplaceAll(message, "\r\n", "\n"), append(slices.Clone(s.submit), from, to)...)
}

// Flush has it try again at once all that it keeps, as if its clock had come
// to the next time of its schedule.
func (s *Outbound) Flush() error {
	return s.run("", s.flush...)
}

func (s *Outbound) run(input string, command ...string) error {
	cmd := s.Root.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr.Credential = &syscall.Credential{Gid: uint32(s.group)}
	if out, err := s.host.RunCommand(s.host.lab.ctx, cmd); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Queued is how many messages it keeps.
func (s *Outbound) Queued() int {
	n := 0
	for _, pattern := range s.spool {
		files, _ := filepath.Glob(s.Root.Path(pattern))
		n += len(files)
	}
	return n
}

// Log is the server's log.
func (s *Outbound) Log() string {
	b, _ := os.ReadFile(s.Root.Path(s.log))
	if s.proc != nil {
		return s.proc.Log() + string(b)
	}
	return string(b)
}

func (s *Outbound) postfix(o OutboundOptions) error {
	level := map[bool]string{true: "none", false: "may"}[o.NoTLS]
	main := append([]string{
		"smtp_helo_name = " + s.helo, "myorigin = " + s.helo, "smtp_tls_security_level = " + level,
		"smtp_tls_loglevel = 1", "minimal_backoff_time = 1h", "maximal_backoff_time = 1h",
	}, o.Main...)
	if o.NoPipelining {
		main = append(main, "smtp_discard_ehlo_keywords = pipelining")
	}
	p := s.host.Postfix(PostfixOptions{Main: main})
	s.Root, s.proc = p.root, p.proc
	s.submit, s.flush = []string{"/usr/sbin/sendmail", "-i", "-f"}, []string{"/usr/sbin/postqueue", "-f"}
	s.log = "/var/log/postfix.log"
	s.spool = []string{"/var/spool/postfix/maildrop/*", "/var/spool/postfix/incoming/*", "/var/spool/postfix/active/*", "/var/spool/postfix/deferred/?/*"}
	return nil
}

func (s *Outbound) exim(o OutboundOptions) error {
	s.Root = s.host.Root("exim", "exim4-daemon-light")
	not := func(off bool) string { return map[bool]string{true: "", false: "*"}[off] }
	conf := strings.Join(append([]string{
		"primary_hostname = " + s.helo, "log_file_path = /var/log/exim-%slog", "spool_directory = /var/spool/exim4",
		"log_selector = +tls_cipher +smtp_confirmation +pipelining", "keep_environment =", "message_logs = false",
	}, o.Main...), "\n") + `
begin acl
begin routers
mx:
  driver = dnslookup
  transport = smtp
begin transports
smtp:
  driver = smtp
  hosts_avoid_tls = ` + not(!o.NoTLS) + `
  hosts_avoid_pipelining = ` + not(!o.NoPipelining) + `
  hosts_try_chunking = ` + not(o.NoChunking) + "\n  " + strings.Join(o.Transport, "\n  ") + `
begin retry
* * F,2d,1h
`
	if err := s.write("/etc/exim4/exim4.conf", conf); err != nil {
		return err
	}
	for _, dir := range []string{"/var/spool/exim4", "/var/log"} {
		if err := s.own(dir, "Debian-exim", 0o755); err != nil {
			return err
		}
	}
	s.submit, s.flush = []string{"/usr/sbin/exim4", "-i", "-odb", "-f"}, []string{"/usr/sbin/exim4", "-qff"}
	s.log = "/var/log/exim-mainlog"
	s.spool = []string{"/var/spool/exim4/input/*-H"}
	return nil
}

func (s *Outbound) opensmtpd(o OutboundOptions) error {
	s.Root = s.host.Root("opensmtpd", "opensmtpd")
	relay := "relay"
	if o.NoTLS {
		relay += ` host "smtp+notls://mx1.example.com"`
	}
	conf := strings.Join(append([]string{
		"bounce warn-interval 4d", // no notice of a delay, which would stay in the queue
		"listen on socket", `action "out" ` + relay + ` helo "` + s.helo + `"`, `match from any for any action "out"`,
	}, o.Main...), "\n") + "\n"
	if err := s.write("/etc/smtpd.conf", conf); err != nil {
		return err
	}
	if err := s.write("/etc/mailname", s.helo+"\n"); err != nil {
		return err
	}
	// 7.6 ends without roots, though it takes any certificate.
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		return err
	}
	if err := s.write("/etc/ssl/certs/ca-certificates.crt", string(roots)); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{"/var/lib/opensmtpd": 0o755, "/var/lib/opensmtpd/empty": 0o755, "/var/spool/smtpd": 0o711} {
		if err := s.own(dir, "root", mode); err != nil {
			return err
		}
	}
	s.group = userID("opensmtpq")
	if s.proc, err = s.host.Start("opensmtpd", s.Root.Command("/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf")); err != nil {
		return err
	}
	s.host.lab.Eventually(20*time.Second, "OpenSMTPD listens to its commands", func() bool {
		return s.run("", "/usr/sbin/smtpctl", "show", "stats") == nil
	})
	s.submit, s.flush = []string{"/usr/sbin/sendmail", "-f"}, []string{"/usr/sbin/smtpctl", "schedule", "all"}
	s.spool = []string{"/var/spool/smtpd/queue/*/*"}
	return nil
}

func (s *Outbound) write(name, text string) error {
	at := s.Root.Path(name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.WriteFile(at, []byte(text), 0o644)
}

func (s *Outbound) own(dir, user string, mode os.FileMode) error {
	at := s.Root.Path(dir)
	if err := os.MkdirAll(at, mode); err != nil {
		return err
	}
	if err := os.Chmod(at, mode); err != nil {
		return err
	}
	return os.Chown(at, userID(user), userID(user))
}

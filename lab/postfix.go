package lab

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// PostfixOptions say what a Postfix serves. Everything else is as Debian ships
// it, the limits on clients that err included.
type PostfixOptions struct {
	Users []string // mailboxes, such as u1@example.com; their domains are served
	Main  []string // further lines of main.cf

	// Files are whole files of /etc/postfix, in place of those that would be
	// made: with a main.cf among them it is the whole configuration, and Users
	// and Main count nothing. Tables of them are built by postmap(1).
	Files  map[string]string
	Tables []string // such as hash:/etc/postfix/relay_recipients
}

// A Postfix is a real mail server, delivering to maildirs.
type Postfix struct {
	host *Host
	root *Root
	proc *Process
}

// Postfix starts Postfix on a host and waits until it greets. It listens on
// port 25 of every address of the host.
func (h *Host) Postfix(o PostfixOptions) *Postfix {
	h.lab.t.Helper()
	p := &Postfix{host: h, root: h.Root("postfix", "postfix")}
	if err := p.configure(o); err != nil {
		h.lab.t.Fatalf("configure Postfix: %v", err)
	}
	p.Start()
	return p
}

// Start starts it again after Kill. The master is started as `postfix start-fg`
// does at last; the look over an installed Postfix which it takes before would
// find an installation wanting, and takes longer than all the rest.
func (p *Postfix) Start() {
	p.host.lab.t.Helper()
	cmd := p.root.Command("/usr/lib/postfix/sbin/master", "-s", "-c", "/etc/postfix")
	cmd.Env = append(cmd.Env, "MAIL_CONFIG=/etc/postfix", "MAIL_LOGTAG=postfix")
	proc, err := p.host.Start("postfix", cmd)
	if err != nil {
		p.host.lab.t.Fatalf("start Postfix: %v", err)
	}
	p.proc = proc
	p.host.lab.Eventually(20*time.Second, "Postfix greets", func() bool {
		select {
		case <-proc.Done():
			p.host.lab.t.Fatalf("Postfix ended at once, exit code %d: %s%s", proc.ExitCode(), proc.Log(), p.Log())
		default:
		}
		return p.host.greets()
	})
}

// Kill ends every process of this Postfix at once, as a power cut would.
func (p *Postfix) Kill() {
	if err := p.proc.Kill(); err != nil {
		p.host.lab.t.Fatalf("kill Postfix: %v", err)
	}
}

// SetUsers makes users all that there are, of the domains that it was made
// with, and starts it again: whoever else was one is unknown from then on.
func (p *Postfix) SetUsers(users []string) {
	p.host.lab.t.Helper()
	var boxes strings.Builder
	for _, u := range users {
		user, domain, _ := strings.Cut(u, "@")
		fmt.Fprintf(&boxes, "%s %s/%s/\n", u, domain, user)
	}
	if err := os.WriteFile(p.root.Path("/etc/postfix/vmailbox"), []byte(boxes.String()), 0o644); err != nil {
		p.host.lab.t.Fatalf("change the users of Postfix: %v", err)
	}
	p.Kill()
	p.Start()
}

// Maildir is the maildir of a mailbox, as this process sees it.
func (p *Postfix) Maildir(mailbox string) string {
	user, domain, _ := strings.Cut(mailbox, "@")
	return p.root.Path(path.Join("/var/mail", domain, user))
}

// Mail returns the files of all mail delivered to a mailbox.
func (p *Postfix) Mail(mailbox string) []string {
	names, _ := filepath.Glob(filepath.Join(p.Maildir(mailbox), "new", "*"))
	return names
}

// Queue returns the files of mail that Postfix has taken and not delivered yet.
// A file that is not executable is not complete, and nobody was told that it
// was taken (qmgr(8)).
func (p *Postfix) Queue() []string {
	var files []string
	for _, queue := range []string{"incoming", "active", "deferred", "maildrop"} {
		dir := p.root.Path(path.Join("/var/spool/postfix", queue))
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // a file that went meanwhile was delivered
			}
			if info, err := d.Info(); err == nil && info.Mode()&0o100 != 0 {
				files = append(files, name)
			}
			return nil
		})
	}
	return files
}

// Log is Postfix's log.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(p.root.Path("/var/log/postfix.log"))
	return string(b)
}

// configure writes what the package's installation would have asked for.
func (p *Postfix) configure(o PostfixOptions) error {
	var domains, boxes []string
	for _, u := range o.Users {
		user, domain, ok := strings.Cut(u, "@")
		if !ok {
			return fmt.Errorf("%q is no mailbox: it has no domain", u)
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
		boxes = append(boxes, fmt.Sprintf("%s %s/%s/\n", u, domain, user))
	}
	main := append([]string{
		"compatibility_level = 3.6",
		"myhostname = " + p.host.Name + ".lab.example",
		"mydestination =",
		"alias_maps =",
		"mynetworks = 127.0.0.0/8 [::1]/128",
		"inet_interfaces = all",
		"virtual_mailbox_domains = " + strings.Join(domains, ", "),
		"virtual_mailbox_maps = texthash:/etc/postfix/vmailbox",
		"virtual_mailbox_base = /var/mail",
		fmt.Sprintf("virtual_uid_maps = static:%d", userID("vmail")),
		fmt.Sprintf("virtual_gid_maps = static:%d", userID("vmail")),
		"maillog_file = /var/log/postfix.log",
	}, o.Main...)
	if err := p.copyFiles(); err != nil {
		return err
	}
	etc := p.root.Path("/etc/postfix")
	files := map[string]string{
		"main.cf":  strings.Join(main, "\n") + "\n",
		"vmailbox": strings.Join(boxes, ""),
	}
	maps.Copy(files, o.Files)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := p.makeDirs(); err != nil {
		return err
	}
	for _, table := range o.Tables {
		if out, err := p.Command("postmap", table); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// Command runs one of Postfix's commands, such as postconf.
func (p *Postfix) Command(name string, args ...string) (string, error) {
	return p.host.RunCommand(p.host.lab.ctx, p.root.Command(path.Join("/usr/sbin", name), args...))
}

// makeDirs makes the directories of postfix-files(5).
func (p *Postfix) makeDirs() error {
	const spool = "/var/spool/postfix/"
	for _, d := range []struct {
		name         string
		owner, group string
		mode         os.FileMode
	}{
		{"/var/mail", "vmail", "vmail", 0o755},
		{"/var/lib/postfix", "postfix", "postfix", 0o700},
		{spool, "root", "root", 0o755},
		{spool + "active", "postfix", "root", 0o700},
		{spool + "bounce", "postfix", "root", 0o700},
		{spool + "corrupt", "postfix", "root", 0o700},
		{spool + "defer", "postfix", "root", 0o700},
		{spool + "deferred", "postfix", "root", 0o700},
		{spool + "flush", "postfix", "root", 0o700},
		{spool + "hold", "postfix", "root", 0o700},
		{spool + "incoming", "postfix", "root", 0o700},
		{spool + "private", "postfix", "root", 0o700},
		{spool + "saved", "postfix", "root", 0o700},
		{spool + "trace", "postfix", "root", 0o700},
		{spool + "maildrop", "postfix", "postdrop", 0o730},
		{spool + "public", "postfix", "postdrop", 0o710},
		{spool + "pid", "root", "root", 0o755},
	} {
		path := p.root.Path(d.name)
		if err := os.MkdirAll(path, d.mode); err != nil {
			return err
		}
		if err := os.Chmod(path, d.mode); err != nil {
			return err
		}
		if err := os.Chown(path, userID(d.owner), userID(d.group)); err != nil {
			return err
		}
	}
	return nil
}

// chrooted is the fifth column of master.cf (master(5)) where it says yes.
var chrooted = regexp.MustCompile(`(?m)^(\w\S*\s+\S+\s+\S+\s+\S+\s+)y`)

// copyFiles puts the package's own files where its installation does, with
// services that stay in the root they have instead of one below it.
func (p *Postfix) copyFiles() error {
	etc := p.root.Path("/etc/postfix")
	if err := os.CopyFS(etc, os.DirFS(p.root.Packages("etc/postfix"))); err != nil {
		return err
	}
	for from, to := range map[string]string{
		"master.cf.dist": "master.cf", "dynamicmaps.cf": "dynamicmaps.cf", "makedefs.out": "makedefs.out",
	} {
		b, err := os.ReadFile(p.root.Packages(path.Join("usr/share/postfix", from)))
		if err != nil {
			return err
		}
		b = chrooted.ReplaceAll(b, []byte("${1}n"))
		if err := os.WriteFile(filepath.Join(etc, to), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// greets says whether an SMTP server on the host answers a connection.
func (h *Host) greets() bool {
	ctx, cancel := context.WithTimeout(h.lab.ctx, time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, netip.MustParseAddrPort("127.0.0.1:25"))
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return false
	}
	buf := make([]byte, 4)
	_, err = io.ReadFull(conn, buf)
	return err == nil && string(buf) == "220 "
}

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mailweir/config"
	"mailweir/record"
	"mailweir/smtp"
	"mailweir/smtp/address"
	"mailweir/smtp/complaint"
	"mailweir/smtp/harvest"
	"mailweir/smtp/relay"
	"mailweir/smtp/reply"
)

// newRouter makes the routes of a configuration.
func newRouter(cfg config.Config, memory *relay.Memory, names *resolver) (*relay.Router, error) {
	dial := (&net.Dialer{Resolver: names.Resolver}).DialContext
	backends := map[string]*relay.Backend{}
	for _, b := range cfg.Backends {
		u, err := relay.ParseURL(b.URL)
		if err != nil {
			return nil, err
		}
		backends[b.Name], err = relay.NewBackend(relay.BackendOptions{
			Name: b.Name, URL: u, TLS: relay.TLSMode(b.TLS), Hostname: cfg.Hostname, Dial: dial,
		})
		if err != nil {
			return nil, err
		}
	}
	var domains []relay.Domain
	for _, d := range cfg.Domains {
		rd := relay.Domain{Name: d.Name, Recipients: string(d.Recipients.From), MaxMessageSize: int64(d.MaxMessageSize)}
		if d.Recipients.From == config.FromFile {
			rd.Recipients = "file:" + d.Recipients.Path
		}
		for _, name := range d.Backends {
			rd.Backends = append(rd.Backends, backends[name])
		}
		domains = append(domains, rd)
	}
	return relay.NewRouter(domains, memory)
}

// smtpPolicy takes what the SMTP side uses out of the file.
func smtpPolicy(cfg config.Config, router smtp.Router, certs *certificates, sc smtp.Scout) smtp.Policy {
	judges := checkPolicy(cfg)
	return smtp.Policy{
		ID: policyID(cfg), Observe: cfg.Observe,
		MaxMessageSize: int64(cfg.SMTP.MaxMessageSize),
		MaxConnections: cfg.SMTP.MaxConnections,
		PerSource:      smtp.PerSource{Open: cfg.SMTP.PerSource.Open, NewPerMinute: cfg.SMTP.PerSource.NewPerMinute},
		Timeouts: smtp.Timeouts{
			Command: cfg.SMTP.Timeouts.Command, DataIdle: cfg.SMTP.Timeouts.DataIdle, Session: cfg.SMTP.Timeouts.Session,
		},
		GreetWait: cfg.SMTP.GreetWait, TLS: certs.config(cfg.TLS.MinVersion), Router: router,
		Traps: harvest.NewTraps(cfg.Harvest.Traps), SMTPUTF8: true, Postmaster: postmaster(cfg),
		Chain: judges.Chain(), Domains: domainChains(cfg), Scout: sc,
		Teaser:         judges.Setting(reply.EarlyTalk) != reply.Off,
		RefuseBareEnds: judges.Setting(reply.BareLineEnds).Do == reply.Reject,
	}
}

// postmaster is whom RCPT TO:<Postmaster> means (RFC 5321 section 4.5.1): that
// of the first domain, since this machine has no mailboxes of its own.
func postmaster(cfg config.Config) address.Mailbox {
	return address.Mailbox{Local: "postmaster", Domain: cfg.Domains[0].Name}
}

// policyID is the same for the same settings, whatever the file looks like.
func policyID(cfg config.Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", cfg))
	return hex.EncodeToString(sum[:6])
}

// harvestRules are the zero Rules, which convict nobody, when it is off.
func harvestRules(h config.Harvest) harvest.Rules {
	if !h.Enabled {
		return harvest.Rules{}
	}
	r := harvest.Default
	r.UnknownPerHour, r.SharePerHour = h.UnknownPerHour, h.SharePerHour
	r.UnknownPerDay, r.SharePerDay = h.UnknownPerDay, h.SharePerDay
	r.AbsolutePerDay = h.AbsolutePerDay
	r.TrapHits, r.Complaints = h.TrapHits, h.Complaints
	return r
}

// recordOptions is what the file says of the record store.
func recordOptions(cfg config.Config) record.Options {
	return record.Options{
		Dir: filepath.Join(cfg.StateDir, "mail", "records"), Node: cfg.Hostname,
		Keep: cfg.Records.Keep, MaxSize: int64(cfg.Records.MaxSize), BanMax: cfg.Firewall.BanMax,
	}
}

// harvestKey is the key of the recipients' hashes.
func harvestKey(dir string) (key [2]uint64, err error) {
	b, err := keptKey(filepath.Join(dir, "harvest.key"), 16)
	if err != nil {
		return key, err
	}
	return [2]uint64{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

// sealKey is the key of the seals in our Received fields.
func sealKey(dir string) (key complaint.Key, err error) {
	b, err := keptKey(filepath.Join(dir, "seal.key"), len(key))
	copy(key[:], b)
	return key, err
}

// keptKey is a random key of n bytes, made at the first start. One of another
// length was damaged: it is set aside, and one is made anew.
func keptKey(path string, n int) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) != n {
		if err = os.Rename(path, path+setAside); err == nil {
			err = fs.ErrNotExist
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		b = make([]byte, n)
		rand.Read(b) // never fails, see crypto/rand
		err = config.WriteFile(path, b, 0o600, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("keep a key: %w (has the disk of %s room, and may users.mail write there?)", err, filepath.Dir(path))
	}
	return b, nil
}

// prepareMailFolders makes the folders that the mail role's user owns. Only
// root can: weir run, or the mail role before it becomes that user.
func prepareMailFolders(cfg config.Config, runDir string, user *syscall.Credential) error {
	for dir, mode := range map[string]os.FileMode{
		filepath.Join(cfg.StateDir, "mail"): 0o700,
		filepath.Dir(mailSocket(runDir)):    0o700,
	} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("make %s: %w", filepath.Dir(dir), err)
		}
		if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := os.Lchown(dir, int(user.Uid), int(user.Gid)); err != nil {
			return fmt.Errorf("give %s to the mail role: %w", dir, err)
		}
	}
	return nil
}

// becomeMailUser gives up root for good. A role that was started as users.mail
// already has nothing to give up; as any other user it would leave files that
// the next start cannot read.
func becomeMailUser(cfg config.Config, runDir string) error {
	user, err := lookupUser(cfg.Users.Mail)
	if err != nil {
		return err
	}
	switch uint32(os.Geteuid()) {
	case user.Uid:
		return nil
	case 0:
	default:
		return fmt.Errorf("the mail role was started as user id %d: start it as root or as %s", os.Geteuid(), cfg.Users.Mail)
	}
	if err := prepareMailFolders(cfg, runDir, user); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(user.Gid)), syscall.Setuid(int(user.Uid))); err != nil {
		return fmt.Errorf("become %s: %w", cfg.Users.Mail, err)
	}
	return nil
}

// harden sees to it that the role has no capability left and can never gain
// one, not even by running a set-user-ID program.
func harden() error {
	// Every thread has its own flag, so every thread has to be told.
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up new privileges: %w (weir has to be built with CGO_ENABLED=0)", errno)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err == nil && !strings.Contains(string(status), "CapPrm:\t0000000000000000") {
		return errors.New("the mail role was started with a capability: give it none, it needs none")
	}
	return nil
}

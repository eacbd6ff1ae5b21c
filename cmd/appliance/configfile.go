package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mailweir/config"
	"mailweir/smtp/relay"
)

// readConfig reads the file and adds what only this machine can tell: whether
// users, certificates and files of recipients are there and may be read.
func readConfig(path string) (config.Config, config.Problems, error) {
	f, cfg, problems, err := config.Read(path)
	if err != nil {
		return cfg, nil, explainRead(path, err)
	}
	if !problems.Bad() {
		problems = append(problems, machineProblems(f, cfg)...)
		problems.Sort()
	}
	return cfg, problems, nil
}

func explainRead(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no configuration file %s: name another with -c, or run `weir run` once without -c to have a first one written to %s", path, defaultConfig)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("may not read %s: the mail role reads it as its own user, so `chgrp weir-mail %[1]s && chmod 640 %[1]s`", path)
	}
	return err
}

// checkedConfig is readConfig for those who can only use a good file.
func checkedConfig(path string) (config.Config, error) {
	cfg, problems, err := readConfig(path)
	if err == nil {
		err = problems.Err()
	}
	return cfg, err
}

// startConfig is the configuration to start a role with: the file, or where
// that is bad the last one that was good, with an alarm. Each role keeps its
// own in its own folder of state_dir.
func startConfig(path, role string) (cfg config.Config, alarms []string, err error) {
	cfg, problems, err := readConfig(path)
	kept := filepath.Join(cfg.StateDir, role, "weir.toml.good")
	if err == nil && !problems.Bad() {
		keepConfig(path, kept)
		return cfg, nil, nil
	}
	if err == nil {
		err = problems.Err()
	}
	last, lastProblems, keptErr := readConfig(kept)
	if keptErr != nil || lastProblems.Bad() {
		return cfg, nil, err
	}
	return last, []string{fmt.Sprintf("the configuration file is bad, the last good one runs: mend it and `weir reload`: %v", err)}, nil
}

// keepConfig remembers a good file. It is no error when that goes wrong: the
// role works, and only a bad file at a later start would miss it.
func keepConfig(path, kept string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if old, err := os.ReadFile(kept); err == nil && string(old) == string(text) {
		return
	}
	folder := filepath.Dir(kept)
	if os.MkdirAll(filepath.Dir(folder), 0o755) != nil { // the other roles go through it
		return
	}
	if err := os.Mkdir(folder, 0o700); err == nil || errors.Is(err, fs.ErrExist) {
		config.WriteFile(kept, text, 0o600, nil)
	}
}

// machineProblems are those of a well-formed file on this machine.
func machineProblems(f *config.File, cfg config.Config) config.Problems {
	var ps config.Problems
	mail, err := lookupUser(cfg.Users.Mail)
	if err != nil {
		ps = append(ps, f.Problem("users", err.Error(), "see above"))
		mail = nil
	}
	for _, c := range cfg.TLS.Certificates {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			ps = append(ps, f.Problem("tls.certificates", fmt.Sprintf("certificate %s: %v", c.Cert, err),
				"give the files of one certificate and its key, in PEM"))
			continue
		}
		ps = append(ps, unreadable(f, "tls.certificates", c.Key, mail)...)
	}
	for _, d := range cfg.Domains {
		if d.Recipients.From != config.FromFile {
			continue
		}
		at := config.Path("domain", d.Name, "recipients")
		if _, err := os.Stat(d.Recipients.Path); err != nil {
			ps = append(ps, f.Problem(at, fmt.Sprintf("the list of recipients cannot be read: %v", err), "write one mailbox a line into it"))
			continue
		}
		ps = append(ps, unreadable(f, at, d.Recipients.Path, mail)...)
	}
	for _, b := range cfg.Backends {
		ps = append(ps, backendProblems(f, b, cfg)...)
	}
	return ps
}

// unreadable warns of a file that the mail role's user may not read.
func unreadable(f *config.File, at, path string, user *syscall.Credential) config.Problems {
	st, err := os.Stat(path)
	if err != nil || user == nil {
		return nil
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	mode := st.Mode().Perm()
	if !ok || mode&0o004 != 0 || (owner.Gid == user.Gid && mode&0o040 != 0) || (owner.Uid == user.Uid && mode&0o400 != 0) {
		return nil
	}
	return config.Problems{f.Warning(at, fmt.Sprintf("the mail role's user may not read %s", path),
		fmt.Sprintf("chgrp its group onto the file and `chmod 640 %s`", path))}
}

// backendProblems are a URL that cannot be used, and a route that leads back
// to ourselves: mail would go round until it has fifty Received headers.
func backendProblems(f *config.File, b config.Backend, cfg config.Config) config.Problems {
	at := config.Path("backend", b.Name, "url")
	u, err := relay.ParseURL(b.URL)
	if err == nil {
		err = relay.TLSMode(b.TLS).Check(u)
	}
	if err != nil {
		return config.Problems{f.Problem(at, err.Error(), "see product manual, backend.NAME.url")}
	}
	if u.Network == "tcp" && leadsHere(u, cfg) {
		return config.Problems{f.Problem(at, u.Address()+" is this machine's own SMTP port, mail would go round in a loop",
			"name the mail server behind")}
	}
	return nil
}

// leadsHere says whether u is one of smtp.listen.
func leadsHere(u relay.URL, cfg config.Config) bool {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	own := map[string]bool{"localhost": true}
	for _, a := range local {
		own[strings.Split(a.String(), "/")[0]] = true
	}
	for _, l := range cfg.SMTP.Listen {
		if fmt.Sprint(l.Port()) != u.Port {
			continue
		}
		if l.Addr().String() == u.Host || l.Addr().IsUnspecified() && own[u.Host] {
			return true
		}
	}
	return false
}

// exists says whether there is something at path; what cannot be looked at
// counts as there, so that nothing is written over it.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

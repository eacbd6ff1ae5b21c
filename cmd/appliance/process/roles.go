// Package process is what has to do with processes: weir run, which starts the
// roles and starts them again, the sockets that it passes to them, and what they
// tell their service manager.
package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"mailweir/control"
)

// Roles is everything that weir run keeps alive on this machine.
type Roles struct {
	RunDir   string
	Config   string // path of the file, passed to the roles
	Listen   []netip.AddrPort
	MailUser *syscall.Credential
	Log      *os.File
	Now      func() time.Time
	Started  func() // called once, when mail is taken; may be nil

	mu    sync.Mutex
	roles []*supervisor
}

const (
	readyTime  = 2 * time.Minute  // restoring ten million bans on a slow machine
	guardGrace = 10 * time.Second // the ledger is synced
	mailGrace  = 45 * time.Second // transfers under way may finish
	signOfLife = time.Minute      // of either
)

// Run is the life of the system: guard holds the kernel, then the SMTP port
// opens, then mail takes connections; at the end the other way round. The
// listening sockets stay open while mail is started again: connections wait.
func (s *Roles) Run(ctx context.Context) error {
	threads, free := context.WithCancel(context.Background())
	defer free() // after the last role has ended
	start := starter(threads)

	stopStatus, err := s.serveStatus()
	if err != nil {
		return err
	}
	defer stopStatus()

	guard := s.supervise(start, role{name: "guard", args: s.args(), ready: readyTime, grace: guardGrace, alive: signOfLife})
	stopGuard, guardEnded, err := keep(ctx, guard)
	if err != nil {
		return err
	}
	defer func() { stopGuard(); <-guardEnded }()

	ls, err := Listen(ctx, s.Listen)
	if err != nil {
		return err
	}
	defer CloseAll(ls)
	files, err := listenerFiles(ls)
	if err != nil {
		return err
	}
	mail := s.supervise(start, role{name: "mail", args: s.args(), user: s.MailUser, files: files, ready: readyTime, grace: mailGrace, alive: signOfLife})
	stopMail, mailEnded, err := keep(ctx, mail)
	if err != nil {
		return err
	}
	if s.Started != nil {
		s.Started()
	}
	<-ctx.Done()
	stopMail()
	<-mailEnded
	return nil
}

func (s *Roles) args() []string { return []string{"-c", s.Config, "--run-dir", s.RunDir} }

func (s *Roles) supervise(start starterFunc, r role) *supervisor {
	sup := &supervisor{role: r, runDir: s.RunDir, log: s.Log, start: start, now: s.Now, after: time.After}
	s.mu.Lock()
	s.roles = append(s.roles, sup)
	s.mu.Unlock()
	return sup
}

// keep runs a supervisor until stop is called and returns when its role is
// ready for the first time. The role does not end with ctx but with stop, so
// that the caller decides the order; ctx only ends the waiting.
func keep(ctx context.Context, s *supervisor) (stop func(), ended <-chan struct{}, err error) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	ready, done := make(chan struct{}), make(chan struct{})
	var failure error
	go func() {
		defer close(done)
		failure = s.run(life, func() { close(ready) })
	}()
	select {
	case <-ready:
		return stop, done, nil
	case <-done:
		stop()
		return nil, nil, failure
	case <-ctx.Done():
		stop()
		<-done
		return nil, nil, ctx.Err()
	}
}

// serveStatus answers weir status on run_dir/run/control.sock.
func (s *Roles) serveStatus() (stop func(), err error) {
	path := Socket(s.RunDir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	l, err := control.Socket{Path: path, Mode: 0o600, UID: -1, GID: -1}.Listen()
	if err != nil {
		return nil, fmt.Errorf("is weir run running already? %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /roles", control.Handle(func(*http.Request, struct{}) ([]RoleState, error) { return s.States(), nil }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := control.Serve(ctx, l, []uint32{0, uint32(os.Getuid())}, mux); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(s.Log, "weir run: status socket: %v\n", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (s *Roles) States() []RoleState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []RoleState
	for _, r := range s.roles {
		states = append(states, r.State())
	}
	return states
}

// Socket is where weir run tells how its roles stand.
func Socket(runDir string) string { return filepath.Join(runDir, "run", "control.sock") }

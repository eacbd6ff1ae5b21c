package main

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

// system is everything that weir run keeps alive on this machine.
type system struct {
	runDir   string
	config   string // path of the file, passed to the roles
	listen   []netip.AddrPort
	mailUser *syscall.Credential
	log      *os.File
	now      func() time.Time
	started  func() // called once, when mail is taken; may be nil

	mu    sync.Mutex
	roles []*supervisor
}

const (
	readyTime  = 2 * time.Minute  // restoring ten million bans on a slow machine
	guardGrace = 10 * time.Second // the ledger is synced
	mailGrace  = 45 * time.Second // transfers under way may finish
	signOfLife = time.Minute      // of either
)

// run is the life of the system: guard holds the kernel, then the SMTP port
// opens, then mail takes connections; at the end the other way round. The
// listening sockets stay open while mail is started again: connections wait.
func (s *system) run(ctx context.Context) error {
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

	ls, err := listen(ctx, s.listen)
	if err != nil {
		return err
	}
	defer closeAll(ls)
	files, err := listenerFiles(ls)
	if err != nil {
		return err
	}
	mail := s.supervise(start, role{name: "mail", args: s.args(), user: s.mailUser, files: files, ready: readyTime, grace: mailGrace, alive: signOfLife})
	stopMail, mailEnded, err := keep(ctx, mail)
	if err != nil {
		return err
	}
	if s.started != nil {
		s.started()
	}
	<-ctx.Done()
	stopMail()
	<-mailEnded
	return nil
}

func (s *system) args() []string { return []string{"-c", s.config, "--run-dir", s.runDir} }

func (s *system) supervise(start starterFunc, r role) *supervisor {
	sup := &supervisor{role: r, runDir: s.runDir, log: s.log, start: start, now: s.now, after: time.After}
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
func (s *system) serveStatus() (stop func(), err error) {
	path := runSocket(s.runDir)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	l, err := control.Socket{Path: path, Mode: 0o600, UID: -1, GID: -1}.Listen()
	if err != nil {
		return nil, fmt.Errorf("is weir run running already? %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /roles", control.Handle(func(*http.Request, struct{}) ([]roleState, error) { return s.states(), nil }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := control.Serve(ctx, l, []uint32{0, uint32(os.Getuid())}, mux); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(s.log, "weir run: status socket: %v\n", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (s *system) states() []roleState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []roleState
	for _, r := range s.roles {
		states = append(states, r.State())
	}
	return states
}

// runSocket is where weir run tells how its roles stand.
func runSocket(runDir string) string { return filepath.Join(runDir, "run", "control.sock") }

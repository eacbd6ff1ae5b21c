package guard

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Config is what a Server is made of.
type Config struct {
	RunDir   string // guard's sockets go to RunDir/guard, which New makes
	StateDir string // ledger and lists go to StateDir/guard, which New makes
	MailUID  uint32 // the only user that may report offences
	Engines  []Engine
	Policy   Policy
	Reload   func(context.Context) (Policy, error) // reads the file again; nil: reload is refused
	Resolver Resolver                              // nil: net.DefaultResolver
	Now      func() time.Time                      // nil: time.Now
	Log      *slog.Logger                          // nil: nothing is logged
	Ready    func()                                // called once, when the ledger is in the engines and the sockets answer; may be nil
}

// Server is the guard role.
type Server struct {
	cfg Config
}

// New makes guard's folders and sockets and reads its ledger. It needs the
// privileges of root; DropPrivileges may be called after it, before Run.
func New(cfg Config) (*Server, error) { return &Server{cfg: cfg}, nil }

// Run restores the ledger into the engines, reports readiness, and serves
// until ctx ends. Bans stay in the kernel, unless Policy.DetachOnStop.
func (s *Server) Run(ctx context.Context) error { return errors.New("not served yet") }

package guard

import (
	"context"
	"runtime/debug"

	"mailweir/geo"
)

// SetWorld puts another world in force, with the rules that stand: the database
// of countries has changed, or is known only now.
func (s *Server) SetWorld(ctx context.Context, world *geo.Tables) {
	s.verbs.Lock()
	defer s.verbs.Unlock()
	p := s.currentPolicy()
	p.World = world
	s.policy.Store(&p)
	if err := s.look(ctx); err != nil {
		s.cfg.Log.Error("guard cannot see the network, what it knew of it stays", "error", err)
	}
	s.engines.settle(ctx)
	debug.FreeOSMemory() // compiling took several times what is kept
}

package guard

import (
	"context"
	"encoding/json"
)

// Figures are what guard counts, as far as the mail role may tell the world.
type Figures struct {
	Firewall string            `json:"firewall"` // as in Status
	Bans     int               `json:"bans"`
	Allow    int               `json:"allow"`
	Engines  []EngineStatus    `json:"engines"`
	Offences map[string]uint64 `json:"offences"`
}

// figuresAnswer is without the places where those would not fit.
func (s *Server) figuresAnswer(ctx context.Context) []byte {
	st := s.status(ctx)
	f := Figures{Firewall: st.Firewall, Bans: st.Bans, Allow: st.Allow, Engines: st.Engines, Offences: st.Offences}
	b, err := json.Marshal(f)
	if err == nil && len(b) > maxAlarms {
		for i := range f.Engines {
			f.Engines[i].Places = nil
		}
		b, err = json.Marshal(f)
	}
	if err != nil {
		s.cfg.Log.Error("figures cannot be told", "error", err)
	}
	return b
}

// Figures asks guard what it counted. An error means that it does not answer.
func (c *Client) Figures(ctx context.Context) (f Figures, err error) {
	err = c.tell(ctx, ask(askFigures, 0), &f)
	return f, err
}

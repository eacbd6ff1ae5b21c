package command

import (
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// versionAnswer is which program this is.
type versionAnswer struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the tree had changes that were not committed
	Go       string `json:"go"`
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "say which weir this is",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := version()
			if c.json {
				return c.printJSON(v)
			}
			c.say("weir %s, built with %s", strings.TrimSpace(v.Version+" "+v.Revision), v.Go)
			return nil
		},
	}
}

// version reads what the toolchain wrote into the program.
func version() versionAnswer {
	v := versionAnswer{Version: "(unknown)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.Go = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

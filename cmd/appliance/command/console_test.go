package command

import (
	"bytes"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

// Every command is on the console, or named as one that is not.
func TestConsoleHasTheCommands(t *testing.T) {
	c := (&cli{}).onConsole(&bytes.Buffer{})
	root := c.root()
	forConsole(root)
	for _, cmd := range (&cli{}).root().Commands() {
		i := slices.IndexFunc(root.Commands(), func(have *cobra.Command) bool { return have.Name() == cmd.Name() })
		if (i >= 0) == slices.Contains(offConsole, cmd.Name()) {
			t.Errorf("%s: on the console: %v", cmd.Name(), i >= 0)
		}
	}
}

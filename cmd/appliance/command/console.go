package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailweir/console"
	"mailweir/control"
)

// offConsole are the commands that the console does not have: roles, which a
// service manager runs, what reads or writes files by name, and itself. An
// operator of the console has no shell, and gets none by way of us.
var offConsole = []string{"run", "guard", "mail", "manual", "replay", "console"}

// flagsOffConsole name files and folders.
var flagsOffConsole = []string{"config", "run-dir", "seed"}

// wholeScreen are the commands that draw the screen, or ask, themselves.
var wholeScreen = []string{"top", "setup"}

const prompt = "weir> "

func (c *cli) consoleCommand() *cobra.Command {
	var line string
	cmd := &cobra.Command{
		Use:   "console",
		Short: "a command line with these commands, for serial lines and SSH",
		Long: `Read commands and run them, with history, completion (TAB), help (?) and a pager. It can be
a login shell, and is one when the program is started as "-weir", or with -c as sshd
does: there is no way from it to a shell, to a file, or to what a service manager runs.
Ctrl-C ends a command, Ctrl-D or "exit" the session. The exit status is that of the last
command.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("command") {
				return c.consoleLine(cmd.Context(), line)
			}
			return c.consoleSession(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&line, "command", "c", "", "run this one line and end")
	return cmd
}

// asShell is the command line that a login means: -weir alone is the console,
// and so is -c LINE, which no command of ours begins with.
func asShell(argv []string) []string {
	if strings.HasPrefix(argv[0], "-") && len(argv) == 1 {
		return []string{"console"}
	}
	if len(argv) == 3 && argv[1] == "-c" {
		return []string{"console", "-c", argv[2]}
	}
	return argv[1:]
}

// exitCode is an error whose words are on the screen, with the exit code of what
// went wrong.
func exitCode(code int) error {
	class := map[int]control.Class{2: control.Usage, 3: control.NotRunning}[code]
	switch code {
	case 0:
		return nil
	case 1:
		return errSaid
	}
	return errors.Join(errSaid, &control.Error{Class: class})
}

func (c *cli) consoleLine(ctx context.Context, line string) error {
	words, err := console.Words(line)
	if err != nil {
		return control.Usagef("%v", err)
	}
	if len(words) == 0 {
		return nil
	}
	return exitCode(c.consoleRun(ctx, words, c.out))
}

func (c *cli) consoleSession(ctx context.Context) error {
	in, inOK := c.in.(*os.File)
	out, outOK := c.out.(*os.File)
	if !inOK || !outOK {
		return errors.New("the console needs files to read and write")
	}
	// Ctrl-C ends a command and not us; SIGTERM ends us, even at the prompt.
	ctx = context.WithoutCancel(ctx)
	signal.Reset(syscall.SIGTERM)
	code, over := 0, false
	s := &console.Console{
		In: in, Out: out, Prompt: prompt,
		Run: func(ctx context.Context, words []string, to io.Writer) {
			if over = slices.Contains([]string{"exit", "quit", "logout"}, words[0]); !over {
				code = c.consoleRun(ctx, words, to)
			}
		},
		Whole:    func(words []string) bool { return slices.Contains(wholeScreen, words[0]) },
		Complete: c.candidates,
	}
	fmt.Fprintf(out, "Mailweir %s. Type ? for the commands, TAB to complete, exit to leave.\n", version().Version)
	if err := s.Loop(ctx, func() bool { return over }); err != nil {
		return err
	}
	return exitCode(code)
}

// consoleRun runs one command and returns its exit code.
func (c *cli) consoleRun(ctx context.Context, words []string, out io.Writer) int {
	if slices.ContainsFunc(words, func(w string) bool { return w == "|" || w == ">" || w == "<" || w == ";" || w == "&" }) {
		fmt.Fprintln(out, "weir: there is no shell here: one command a line, without | > < ; &")
		return 2
	}
	one := c.onConsole(out)
	if words[0] == "?" {
		words = []string{"help"}
	}
	return one.execute(ctx, words)
}

// onConsole is the same cli for one command of the console.
func (c *cli) onConsole(out io.Writer) *cli {
	one := *c
	one.out, one.err, one.json, one.console = out, out, false, true
	return &one
}

// forConsole takes out of a command tree what the console does not have.
func forConsole(root *cobra.Command) {
	root.CompletionOptions.DisableDefaultCmd = true // scripts for shells
	for _, cmd := range root.Commands() {
		if slices.Contains(offConsole, cmd.Name()) {
			root.RemoveCommand(cmd)
		}
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			for _, name := range flagsOffConsole {
				if f := set.Lookup(name); f != nil {
					f.Hidden, f.Value = true, offLimits{f.Value}
				}
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// offLimits is a flag that cannot be given.
type offLimits struct{ pflag.Value }

func (offLimits) Set(string) error {
	return errors.New("files and folders are not chosen on the console")
}

// candidates asks cobra what may come, as shells do.
func (c *cli) candidates(words []string) (list []console.Candidate) {
	var out bytes.Buffer
	one := c.onConsole(&out)
	one.err = io.Discard
	one.execute(context.Background(), append([]string{cobra.ShellCompRequestCmd}, words...))
	for line := range strings.Lines(out.String()) {
		word, help, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if word != "" && !strings.HasPrefix(word, ":") {
			list = append(list, console.Candidate{Word: printable(word), Help: printable(help)})
		}
	}
	return list
}

// Package command is the command line: one file a verb, each of which asks the
// roles that run, and prints what they say. The verbs run, guard and mail are the
// roles themselves.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/settings"
	"mailweir/control"
)

const defaultRunDir = "/run/mailweir"

// cli is what every command is made with: where it reads and writes, the clock,
// and the flags that all share.
type cli struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time

	runDir      string
	runDirGiven bool // by the command line or the environment
	json        bool
	console     bool // this is a command of the console
}

// Run runs a command line, the program's name first, and returns the exit
// status.
func Run(ctx context.Context, argv []string) int {
	c := &cli{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now}
	return c.execute(ctx, asShell(argv))
}

// root is the command tree. The order is that of the help and of the manual.
func (c *cli) root() *cobra.Command {
	cobra.EnableCommandSorting = false // the order of commands is that of their use
	root := &cobra.Command{
		Use:           "weir",
		Short:         "the firewall and filter at the edge of a mail system",
		SilenceErrors: true, // main prints them, once
		SilenceUsage:  true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return control.Usagef("%s (see %s --help)", inWords(err), cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.runDir, "run-dir", envOr("WEIR_RUN_DIR", defaultRunDir), "where the running system has its sockets (or $WEIR_RUN_DIR)")
	flags.BoolVar(&c.json, "json", false, "print JSON: one object a line")
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		c.runDirGiven = flags.Changed("run-dir") || os.Getenv("WEIR_RUN_DIR") != ""
	}
	return helpOf(group(root, c.commands()...))
}

// start is what a role begins with that was started by this command line. Its
// run_dir is that of the file where neither the command line nor the environment
// names one.
func (c *cli) start(file string) settings.Start {
	s := settings.Start{File: file, Log: c.err, Now: c.now}
	if c.runDirGiven {
		s.RunDir = c.runDir
	}
	return s
}

// envOr returns an environment variable, or fallback where it is empty.
func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// execute runs a command line and returns the exit code: 0 done, 1 refused or
// gone wrong, 2 written wrongly, 3 not running.
func (c *cli) execute(ctx context.Context, args []string) int {
	root := c.root()
	if c.console {
		forConsole(root)
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintf(c.err, "weir: %s\n", printableLines(err.Error()))
	}
	return control.ExitCode(err)
}

// errSaid is a failure whose words are on the screen already; exit code 1.
var errSaid = errors.New("failed as shown")

// args wraps a check of cobra's so that its complaint counts as usage, in words
// of ours, and says how the command is written.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) == nil {
			return nil
		}
		for i := range args { // the first that is one too many
			if check(cmd, args[:i]) == nil && check(cmd, args[:i+1]) != nil {
				if cmd.HasAvailableSubCommands() {
					return control.Usagef("%s has no command %q (see %[1]s --help)", cmd.CommandPath(), args[i])
				}
				return control.Usagef("%q is too much: write %s", args[i], cmd.UseLine())
			}
		}
		return control.Usagef("something is missing: write %s", cmd.UseLine())
	}
}

// noNumber is how Go says that a flag has no number.
var noNumber = regexp.MustCompile(`strconv\.Parse\w+: parsing ("[^"]*"): .*`)

// inWords is a complaint about a flag without the names of Go's functions.
func inWords(err error) string {
	return noNumber.ReplaceAllString(err.Error(), "$1 is no number that fits here")
}

// helpOf has weir help WORD know which words there are.
func helpOf(root *cobra.Command) *cobra.Command {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil || help.Run == nil {
		return root
	}
	show := help.Run
	help.RunE = func(cmd *cobra.Command, args []string) error {
		of, rest, err := root.Find(args)
		if err != nil {
			return control.Usagef("%v", err)
		}
		if _, holds := of.Annotations[onlyHolds]; holds && len(rest) > 0 {
			return of.RunE(of, rest) // it says which word it does not know, and what was perhaps meant
		}
		show(cmd, args)
		return nil
	}
	help.Run = nil
	return root
}

// group is a command that only holds others. Alone it shows its help; a word
// that it does not know is usage, with the ones that were perhaps meant.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.Annotations = map[string]string{onlyHolds: ""}
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := "see " + cmd.CommandPath() + " --help"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return control.Usagef("%s has no command %q (%s)", cmd.CommandPath(), args[0], hint)
	}
	cmd.AddCommand(subs...)
	return cmd
}

// commands are all the commands, in the order of the help.
func (c *cli) commands() []*cobra.Command {
	return []*cobra.Command{
		c.runCommand(), c.guardCommand(), c.mailCommand(),
		c.checkCommand(), c.reloadCommand(), c.statusCommand(),
		c.bansCommand(), c.banCommand(), c.unbanCommand(), c.confirmCommand(), c.firewallCommand(),
		c.maintenanceCommand(), c.allowCommand(), c.blockCommand(), c.listsCommand(),
		c.whyCommand(), c.recordsCommand(), c.replayCommand(), c.topCommand(), c.complainCommand(), c.testCommand(), c.geoCommand(),
		c.systemCommand(), c.upgradeCommand(), c.consoleCommand(), c.setupCommand(), c.versionCommand(), c.manualCommand(),
	}
}

// configVar defines -c.
func configVar(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", settings.DefaultPath, "the configuration file")
}

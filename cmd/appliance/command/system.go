package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/machine"
	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall/guard"
)

func (c *cli) systemCommand() *cobra.Command {
	var file string
	all := append(c.systemFileCommands(&file), c.systemChangeCommands(&file)...)
	for _, cmd := range all {
		configVar(cmd, &file)
	}
	return group(&cobra.Command{Use: "system", Short: "the machine itself, on the appliance image"}, all...)
}

// systemFileCommands bring files to the machine and show what they mean.
func (c *cli) systemFileCommands(file *string) []*cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "print the files that [system] means",
		Long: `Print the files of the operating system that are made from [system] of the configuration
file. Nothing is changed; it works on any machine.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return c.showSystem(*file) },
	}
	load := &cobra.Command{
		Use:   "load FILE|-",
		Short: "take another configuration file, if it is good",
		Long: `Put a file, or with - what comes on standard input, in the place of the configuration
file: whole or not at all, and only if it has no mistake. The one before stays beside it,
as weir.toml.before. Then say weir reload, and weir system apply where [system] changed.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error { return c.loadConfig(a[0], *file) },
	}
	put := &cobra.Command{
		Use:   "put NAME",
		Short: "keep a file that the configuration names: a certificate, a list of recipients",
		Long: `Take what comes on standard input as the file NAME beside the configuration file, where
the mail role may read it: ssh MACHINE system put ca.pem < ca.pem, and then
ca = "/etc/mailweir/ca.pem" in the file. One that is there is replaced, whole.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error { return c.putFile(a[0], *file) },
	}
	return []*cobra.Command{load, put, show}
}

// systemChangeCommands put [system] in force and take it back.
func (c *cli) systemChangeCommands(file *string) []*cobra.Command {
	var within time.Duration
	apply := &cobra.Command{
		Use:   "apply",
		Short: "put [system] in force, until it is confirmed or taken back",
		Long: `Put [system] of the configuration file in force. Unless "weir system confirm" is said
within the time of --confirm, the machine takes it back by itself, with the whole file
as it was before: a change that cuts you off undoes itself, and so does a power cut
meanwhile. The file that was taken back stays beside it, as weir.toml.undone.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.applySystem(cmd.Context(), *file, within) },
	}
	apply.Flags().DurationVar(&within, "confirm", 2*time.Minute, "how long to wait for weir system confirm")
	confirm := &cobra.Command{
		Use:   "confirm",
		Short: "keep what weir system apply put in force",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.image(*file).Confirm(cmd.Context()) },
	}
	undo := &cobra.Command{
		Use:   "undo",
		Short: "take back what weir system apply put in force, now",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return c.undoSystem(cmd.Context(), *file) },
	}
	reset := &cobra.Command{
		Use:   "reset HOSTNAME",
		Short: "erase settings, keys, bans, records and logs, and restart",
		Long: `Restart into a machine as it was first switched on: the data partition is made anew, with
another machine id and other keys of SSH, and a seed counts again. What is erased cannot
be had back. HOSTNAME is the name of this machine, so that it is not another one.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return c.resetSystem(cmd.Context(), a[0], *file) },
	}
	prepare := &cobra.Command{
		Use:   "prepare",
		Short: "make ready what the services of the image need, at boot",
		Long: `Make ready what the services of the image need, at each boot before any of them: the
files of [system], and at the first boot the configuration file and the key of SSH. The
first file is a seed, where there is one: the credential weir.config (SMBIOS type 11,
systemd.system-credentials(7)), or weir.toml on a volume labelled WEIR_SEED.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.image(*file).Prepare(cmd.Context()) },
	}
	return []*cobra.Command{apply, confirm, undo, reset, prepare}
}

func (c *cli) resetSystem(ctx context.Context, name, file string) error {
	if !settings.OnImage("/") {
		return machine.ErrNotImage
	}
	own, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("ask for this machine's name: %w", err)
	}
	if _, cfg, _, err := config.Read(file); err == nil && cfg.Hostname != "" {
		own = cfg.Hostname // which the kernel hears at the next boot only
	}
	if name != own {
		return control.Usagef("this machine is %s: nothing is erased", own)
	}
	m, err := machine.Slots()
	if err != nil {
		return err
	}
	if err := m.Reset(); err != nil {
		return err
	}
	return c.restart(ctx, true)
}

// maxConfig is more than a configuration file may be long.
const maxConfig = 1<<20 + 1

func (c *cli) loadConfig(from, file string) error {
	in := c.in
	if from != "-" && c.console {
		return control.Usagef("files are not chosen on the console: say weir system load -, and send the file (ssh MACHINE system load - < weir.toml)")
	}
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return fmt.Errorf("read the new configuration: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxConfig))
	if err != nil {
		return fmt.Errorf("read the new configuration: %w", err)
	}
	f, cfg, problems := config.Parse(from, text)
	if !problems.Bad() {
		problems = append(problems, settings.Problems(f, cfg)...)
		problems.Sort()
	}
	if err := problems.Err(); err != nil {
		return err
	}
	if err := setBefore(file); err != nil {
		return err
	}
	like, _ := os.Stat(file)
	if err := config.WriteFile(file, text, 0o640, like); err != nil {
		return err
	}
	for _, p := range problems { // warnings: it is good otherwise
		c.warn([]string{p.String()})
	}
	c.say("%s is in place; say weir reload, and weir system apply where [system] changed", file)
	return nil
}

// setBefore keeps a configuration that is about to be replaced beside it. None
// is no error.
func setBefore(file string) error {
	before, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return settings.ExplainRead(file, err)
	}
	like, err := os.Stat(file)
	if err != nil {
		return settings.ExplainRead(file, err)
	}
	return config.WriteFile(file+".before", before, 0o640, like)
}

// fileName is what a file beside the configuration may be called.
var fileName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func (c *cli) putFile(name, file string) error {
	own := filepath.Base(file)
	if !fileName.MatchString(name) || len(name) >= len(own) && name[:len(own)] == own {
		return control.Usagef("%q is no name for a file: use small letters, digits, dots, - and _, and not %s", name, own)
	}
	text, err := io.ReadAll(io.LimitReader(c.in, maxFile+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the file: %w", err)
	case len(text) == 0:
		return errors.New("nothing came on standard input: say ssh MACHINE system put NAME < FILE")
	case len(text) > maxFile:
		return fmt.Errorf("the file is longer than %d bytes", maxFile)
	}
	like, err := os.Stat(file) // the mail role reads both
	if err != nil {
		return settings.ExplainRead(file, err)
	}
	path := filepath.Join(filepath.Dir(file), name)
	if err := config.WriteFile(path, text, 0o640, like); err != nil {
		return err
	}
	c.say("%s is in place; say weir reload where the configuration names it already", path)
	return nil
}

// maxFile is how long a file may be: a list of a hundred thousand recipients
// fits.
const maxFile = 8 << 20

func (c *cli) image(file string) *machine.Image {
	return machine.NewImage(file, c.now, c.say, func(format string, args ...any) {
		fmt.Fprintf(c.err, "weir system: %s\n", printableLines(fmt.Sprintf(format, args...)))
	})
}

func (c *cli) showSystem(file string) error {
	_, cfg, problems, err := config.Read(file)
	if err != nil {
		return settings.ExplainRead(file, err)
	}
	if err := problems.Err(); err != nil {
		return err
	}
	files := machine.Files(cfg)
	if c.json {
		return c.printJSON(files)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if f := files[name]; f.Text != "" {
			fmt.Fprintf(c.out, "==> /%s\n%s\n", name, printableLines(f.Text))
		}
	}
	return nil
}

func (c *cli) applySystem(ctx context.Context, file string, within time.Duration) error {
	if !settings.OnImage("/") {
		return machine.ErrNotImage
	}
	if within < 10*time.Second || within > time.Hour {
		return control.Usagef("--confirm %v is too short or too long: write 10s to 1h", within)
	}
	cfg, err := settings.Checked(file)
	if err != nil {
		return err
	}
	if err := c.image(file).Apply(ctx, cfg, within); err != nil {
		return err
	}
	c.say("in force for %v: say weir system confirm to keep it", within)
	return nil
}

func (c *cli) undoSystem(ctx context.Context, file string) error {
	undone, err := c.image(file).Undo(ctx)
	if err != nil {
		return err
	}
	if !undone {
		return errors.New("there is nothing to take back: the last change was confirmed, or there was none")
	}
	if _, err := c.reload(ctx, guard.TrialTerms{NoTrial: true}); err != nil {
		return fmt.Errorf("[system] is as it was, and so is the file, but the roles do not take it: %w", err)
	}
	c.say("[system] and the file are as they were before; the change is in %s.undone", file)
	return nil
}

// Package machine is the appliance image as a running machine: [system] put in
// force and taken back, the first boot, the two versions on its disk.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/disk"
	"mailweir/image/osfiles"
)

// Image is the appliance image that this process runs on: it renders [system]
// into files of the operating system, and takes a change back that nobody
// confirmed.
type Image struct {
	root   string // "/", or a test's
	config string // the configuration file
	dir    string // what is kept: applied.toml, pending.json, the keys of SSH
	now    func() time.Time
	run    func(ctx context.Context, command ...string) error
	say    func(format string, args ...any) // to whoever reads along
	warn   func(format string, args ...any)
}

// NewImage is the one that this process runs on.
func NewImage(config string, now func() time.Time, say, warn func(format string, args ...any)) *Image {
	return &Image{root: "/", config: config, dir: "/var/lib/mailweir/system", now: now, run: runCommand, say: say, warn: warn}
}

func runCommand(ctx context.Context, command ...string) error {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

var ErrNotImage = errors.New("this machine is not the appliance image: its own operating system has addresses, users and time, and [system] has no effect")

// Files are the files of the operating system that [system] of cfg means, by
// their paths.
func Files(cfg config.Config) map[string]osfiles.File { return osfiles.Render(machineSettings(cfg)) }

// machineSettings are what of the configuration the operating system is told.
func machineSettings(cfg config.Config) osfiles.Settings {
	s := osfiles.Settings{
		Listen: cfg.SMTP.Listen, Metrics: cfg.Metrics.Listen, Interfaces: cfg.System.Interfaces, Routes: cfg.System.Routes,
		DNS: cfg.System.DNS, NTP: cfg.System.NTP,
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.System.Operators)) {
		o := osfiles.Operator{Name: name}
		for _, login := range cfg.System.Operators[name] {
			if config.IsPasswordHash(login) {
				o.Password = login
			} else {
				o.Keys = append(o.Keys, login)
			}
		}
		s.Operators = append(s.Operators, o)
	}
	return s
}

// Names of what the image keeps in its folder.
const (
	appliedFile = "applied.toml" // the file whose [system] is in force and confirmed
	pendingFile = "pending.json"
	undoUnit    = "weir-system-undo"
)

// pending is a change that nobody has confirmed yet.
type pending struct {
	Until time.Time `json:"until"`
}

func (i *Image) path(name string) string { return filepath.Join(i.dir, name) }

// Apply puts [system] of cfg in force. The way back is armed first, and it is
// the service manager's: it outlives the session that asks.
func (i *Image) Apply(ctx context.Context, cfg config.Config, within time.Duration) error {
	if settings.Exists(i.path(pendingFile)) {
		return errors.New("the last change is not confirmed yet: say weir system confirm or weir system undo first")
	}
	text, err := json.Marshal(pending{Until: i.now().Add(within)})
	if err != nil {
		return fmt.Errorf("encode the pending change: %w", err)
	}
	if err := config.WriteFile(i.path(pendingFile), text, 0o600, nil); err != nil {
		return err
	}
	arm := i.run(ctx, "systemd-run", "--quiet", "--unit="+undoUnit, "--on-active="+fmt.Sprint(int(within.Seconds())), "--timer-property=AccuracySec=1s",
		"/usr/bin/weir", "system", "undo", "-c", i.config)
	if arm != nil {
		return errors.Join(arm, os.Remove(i.path(pendingFile)))
	}
	if err := i.write(ctx, cfg); err != nil {
		_, undo := i.Undo(ctx)
		return errors.Join(err, undo)
	}
	return nil
}

// write renders cfg and has the services look.
func (i *Image) write(ctx context.Context, cfg config.Config) error {
	changed, err := osfiles.Write(i.root, Files(cfg))
	if err != nil {
		return err
	}
	var errs []error
	for _, command := range osfiles.Services(changed) {
		errs = append(errs, i.run(ctx, command...))
	}
	return errors.Join(errs...)
}

// Confirm keeps what is in force.
func (i *Image) Confirm(ctx context.Context) error {
	if !settings.Exists(i.path(pendingFile)) {
		return errors.New("nothing waits to be confirmed: the time was over and the change was taken back, or there was none")
	}
	if err := i.remember(); err != nil {
		return err
	}
	if err := os.Remove(i.path(pendingFile)); err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	return errors.Join(disk.SyncDir(i.dir), i.run(ctx, "systemctl", "stop", undoUnit+".timer"))
}

// remember keeps the configuration file as the one to go back to.
func (i *Image) remember() error {
	text, err := os.ReadFile(i.config)
	if err != nil {
		return settings.ExplainRead(i.config, err)
	}
	return config.WriteFile(i.path(appliedFile), text, 0o600, nil)
}

// Undo takes an unconfirmed change back, in the system and in the file; false
// says that there was none.
func (i *Image) Undo(ctx context.Context) (undone bool, err error) {
	if !settings.Exists(i.path(pendingFile)) {
		return false, nil
	}
	if err := i.restoreFile(); err != nil {
		return true, err
	}
	_, cfg, problems, err := config.Read(i.config)
	if err == nil {
		err = problems.Err()
	}
	if err == nil {
		err = i.write(ctx, cfg)
	}
	i.run(ctx, "systemctl", "stop", undoUnit+".timer") // it may be what runs us
	return true, err
}

// restoreFile puts the last confirmed file in the place of the one that was
// not, which is kept beside it.
func (i *Image) restoreFile() error {
	before, err := os.ReadFile(i.path(appliedFile))
	if err != nil {
		return fmt.Errorf("read the last confirmed configuration: %w", err)
	}
	now, err := os.ReadFile(i.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the configuration: %w", err)
	}
	like, _ := os.Stat(i.config)
	return errors.Join(
		config.WriteFile(i.config+".undone", now, 0o640, like),
		config.WriteFile(i.config, before, 0o640, like),
		os.Remove(i.path(pendingFile)), disk.SyncDir(i.dir))
}

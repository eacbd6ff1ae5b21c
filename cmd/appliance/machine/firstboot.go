package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/image/osfiles"
)

// Where a seed may be.
const (
	seedCredential = "weir.config" // in $CREDENTIALS_DIRECTORY
	seedVolume     = "WEIR_SEED"   // label of a file system
	seedFile       = "weir.toml"   // on that volume
)

// Prepare is what happens at each boot before any service.
func (i *Image) Prepare(ctx context.Context) error {
	if !settings.OnImage("/") {
		return ErrNotImage
	}
	if !settings.Exists(i.config) {
		if err := i.firstBoot(ctx); err != nil {
			return err
		}
	}
	if settings.Exists(i.path(pendingFile)) {
		i.say("a change of [system] was not confirmed before this boot: it is taken back")
		if err := i.restoreFile(); err != nil {
			return err
		}
	}
	cfg, alarm, err := i.bootConfig()
	if alarm != "" {
		i.warn("%s", alarm)
	}
	if err != nil {
		i.warn("%v", err)
	}
	if cfg.Hostname != "" {
		if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
			i.warn("set the host name: %v", err)
		}
	}
	_, err = osfiles.Write(i.root, Files(cfg))
	return errors.Join(err, i.sshKey(ctx), i.run(ctx, "systemctl", "daemon-reload"))
}

// bootConfig is the file, which counts as confirmed by the boot, or where it
// is bad the last one that was, or what is understood of it; alarm says so.
func (i *Image) bootConfig() (cfg config.Config, alarm string, err error) {
	f, cfg, problems, err := config.Read(i.config)
	if err == nil {
		err = problems.Err()
	}
	if err == nil {
		if more := settings.Problems(f, cfg); more.Bad() { // the roles will find them, and nobody sees what they log
			alarm = more.Err().Error()
		}
		return cfg, alarm, i.remember()
	}
	_, last, lastProblems, lastErr := config.Read(i.path(appliedFile))
	if lastErr == nil && !lastProblems.Bad() {
		return last, fmt.Sprintf("the configuration file is bad, this machine's addresses and operators are those of the last good one: %v", err), nil
	}
	cfg, alarm = settings.Understood(i.config)
	return cfg, alarm, nil
}

// sshKey makes the key that the machine is known by, once.
func (i *Image) sshKey(ctx context.Context) error {
	key := i.path("ssh_host_ed25519_key")
	if settings.Exists(key) {
		return nil
	}
	return i.run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
}

// firstBoot writes the configuration: a seed, or one to try the machine out
// with until somebody sets it up.
func (i *Image) firstBoot(ctx context.Context) error {
	text, from, err := seed(ctx)
	if err != nil {
		i.warn("%v", err)
	}
	if text == nil {
		i.say("first boot: there is no seed, so a first configuration is written to %s", i.config)
		return errors.Join(settings.WriteFirst(i.config, settings.Appliance), giveToMail(filepath.Dir(i.config)))
	}
	// One with mistakes is taken all the same: what is understood of it is more
	// than what no seed says.
	i.say("first boot: the configuration comes from %s", from)
	return errors.Join(config.WriteFile(i.config, text, 0o640, nil), giveToMail(filepath.Dir(i.config)))
}

// giveToMail lets the mail role's group read the folder and what is in it.
func giveToMail(dir string) error {
	g, err := user.LookupGroup("weir-mail")
	if err != nil {
		return fmt.Errorf("find the group of the mail role: %w", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("read the group of the mail role: %w", err)
	}
	dir, err = filepath.EvalSymlinks(dir) // the root is read-only: /etc/mailweir leads to /var
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 0, gid))
	})
}

// seed looks for a configuration file that was given to this machine. None is
// no error.
func seed(ctx context.Context) (text []byte, from string, err error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if text, err := os.ReadFile(filepath.Join(dir, seedCredential)); err == nil {
			return text, "the credential " + seedCredential, nil
		}
	}
	device := "/dev/disk/by-label/" + seedVolume
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	runCommand(wait, "udevadm", "settle", "--timeout=8", "--exit-if-exists="+device) // a disk may be slow to come
	if !settings.Exists(device) {
		return nil, "", nil
	}
	at, err := os.MkdirTemp("/run", "seed-")
	if err != nil {
		return nil, "", fmt.Errorf("make a place for the seed: %w", err)
	}
	defer os.Remove(at)
	for _, kind := range []string{"iso9660", "vfat", "ext4"} {
		if err = unix.Mount(device, at, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err == nil {
			defer unix.Unmount(at, 0)
			text, err = os.ReadFile(filepath.Join(at, seedFile))
			break
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the seed: %w (the volume %s needs a file %s)", err, seedVolume, seedFile)
	}
	return text, "the volume " + seedVolume, nil
}

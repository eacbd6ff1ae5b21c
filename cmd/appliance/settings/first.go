package settings

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailweir/config"
)

var (
	//go:embed first.toml
	firstConfig string
	//go:embed first.recipients
	firstRecipients string
)

// Place is what sort of machine a first configuration is for.
type Place bool

// The sorts of machines.
const (
	Guest     Place = false // somebody else's: nothing is left on its cards
	Appliance Place = true  // our image: bans outlive a restart, and the driver is tried first
)

// guestLine begins those lines of the first configuration that are for a Guest only.
const guestLine = "{{guest}}"

// WriteFirst writes a configuration to try the appliance out with, and the list
// of recipients that it names. Neither is written over. Their mode lets the
// mail role read them: they hold no secret.
func WriteFirst(path string, place Place) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the configuration: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("ask for this machine's name: %w", err)
	}
	text := firstText(path, Qualified(hostname), place)
	for name, content := range map[string]string{firstList(path): firstRecipients, path: text} {
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if err := config.WriteFile(name, []byte(content), 0o644, nil); err != nil {
			return err
		}
	}
	return nil
}

// firstText is what WriteFirst writes to path.
func firstText(path, hostname string, place Place) string {
	var text strings.Builder
	for line := range strings.Lines(firstConfig) {
		line, guest := strings.CutPrefix(line, guestLine)
		if !guest || place == Guest {
			text.WriteString(line)
		}
	}
	return strings.NewReplacer(
		"{{hostname}}", hostname,
		"{{maildir}}", filepath.Join(config.Default().StateDir, "mail", "maildir"),
		"{{recipients}}", firstList(path),
	).Replace(text.String())
}

// firstList is the list of recipients that the first configuration at path names.
func firstList(path string) string { return filepath.Join(filepath.Dir(path), "recipients") }

// StillFirst tells whether nobody has changed the first configuration: whoever
// starts it is still trying.
func StillFirst(path, hostname string) bool {
	text, err := os.ReadFile(path)
	return err == nil && (string(text) == firstText(path, hostname, Guest) || string(text) == firstText(path, hostname, Appliance))
}

// Qualified makes a name that may stand in EHLO of what the machine calls
// itself: that name if it is whole, what the resolver knows for it, or one that
// shows in every reply that it has to be set.
func Qualified(name string) string {
	if !strings.Contains(name, ".") {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if whole, err := net.DefaultResolver.LookupCNAME(ctx, name); err == nil {
			name = strings.TrimSuffix(whole, ".")
		}
	}
	text := fmt.Sprintf("hostname = %q\n", name)
	_, cfg, problems := config.Parse("", []byte(text))
	for _, p := range problems {
		if p.Line == 1 {
			return "set-hostname.invalid"
		}
	}
	return cfg.Hostname
}

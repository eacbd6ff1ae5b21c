package command

import (
	"context"
	"fmt"
	"strings"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/config"
	"mailweir/smtp/access"
)

// someNames is how many allowed names a warning has.
const someNames = 3

// nameWarnings are the rules of a file by which the kernel, or a ban, keeps out
// whom weir allow lets in by name: an address is all that is known there. It also
// tells of entries that let anybody in who writes the right name.
func (c *cli) nameWarnings(ctx context.Context, path string) (list config.Problems) {
	f, cfg, problems, err := config.Read(path)
	if err != nil || problems.Bad() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hitsWithin)
	defer cancel()
	entries, err := mailapi.NewClient(c.runDir).Entries(ctx)
	if err != nil {
		return nil // nothing runs that would have names
	}
	named, forgeable := allowedNames(entries)
	if len(named) > 0 {
		for _, key := range hidingKeys(cfg) {
			list = append(list, f.Warning(key, key+" is about addresses, and so hides from the checks whom weir allow lets in by name: "+few(named),
				"allow their addresses too, or refuse in SMTP by geo.reject, or a feed's action = \"reject\""))
		}
	}
	if len(forgeable) > 0 {
		list = append(list, f.Warning("checks", "weir allow --forgeable lets anybody in who writes the right sender: "+few(forgeable),
			"take --forgeable off where the domain has SPF, or allow its host by rdns:"))
	}
	return list
}

// allowedNames are the subjects that are let in by name, and those of them that
// nothing proves.
func allowedNames(entries []access.Entry) (named, forgeable []string) {
	for _, e := range entries {
		if e.Action != access.Allow || e.Subject.Kind == access.Address {
			continue
		}
		named = append(named, e.Subject.String())
		if e.Forgeable {
			forgeable = append(forgeable, e.Subject.String())
		}
	}
	return named, forgeable
}

// hidingKeys are those of a file by which somebody is kept out before he can say
// a word.
func hidingKeys(cfg config.Config) (keys []string) {
	if len(cfg.Geo.Drop) > 0 {
		keys = append(keys, "geo.drop")
	}
	if len(cfg.Geo.Ban) > 0 {
		keys = append(keys, "geo.ban")
	}
	for _, f := range cfg.Feeds {
		if f.Action == "ban" {
			keys = append(keys, config.Path("feed", f.Name, "action"))
		}
	}
	return keys
}

// few are the first of a list.
func few(list []string) string {
	if len(list) > someNames {
		return strings.Join(list[:someNames], ", ") + fmt.Sprintf(" and %d more", len(list)-someNames)
	}
	return strings.Join(list, ", ")
}

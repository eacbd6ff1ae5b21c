package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"mailweir/cmd/appliance/settings"
	"mailweir/config"
	"mailweir/control"
	"mailweir/firewall"
	"mailweir/record"
	"mailweir/record/replay"
	"mailweir/ref"
	"mailweir/smtp/harvest"
	"mailweir/smtp/reply"
)

func (c *cli) replayCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "replay RECORDS",
		Short: "judge recorded lines again: who would be refused and banned under a configuration",
		Long: `Judge records (as weir records --json prints them; - is standard input) again under a
configuration, without -c under the defaults, and print as JSON lines, in order of time:
transactions that would have become something else, bans that would be made, alarms that
would be raised, and a summary. It works from the facts alone and takes the records' times
as its clock: the same records always give the same answer. Nothing running is touched.`,
		Example: `  weir records --since 7d --limit 0 --json | weir replay -c new.toml -
  weir replay case.jsonl`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := config.Default()
			if cmd.Flags().Changed("config") {
				var err error
				if cfg, err = settings.Checked(file); err != nil {
					return err
				}
			}
			in, err := c.input("records", args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			return c.replay(cmd.Context(), cfg, in, args[0])
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the configuration to judge under (default: that of an empty file)")
	return cmd
}

// input opens a file that the operator named, which has what; - is standard input.
func (c *cli) input(what, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.in), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, control.Usagef("open the %s: %v", what, err)
	}
	return f, nil
}

// mostWarnings bounds the lines of which it is told why each is no record.
const mostWarnings = 10

// replay plays in, which the operator named so, and prints what comes of it. A
// line that is no record is told and passed over, and makes the exit status 1.
func (c *cli) replay(ctx context.Context, cfg config.Config, in io.Reader, name string) error {
	options, err := replayOptions(cfg)
	if err != nil {
		return err
	}
	p, bad := replay.New(options), 0
	for line, err := range record.Lines(in) {
		var wrong *record.LineError
		switch {
		case errors.As(err, &wrong):
			if bad++; bad <= mostWarnings {
				c.warn([]string{fmt.Sprintf("%v: passed over", wrong)})
			}
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			p.Add(&line)
		}
	}
	sum, err := c.play(p)
	if bad > mostWarnings {
		c.warn([]string{fmt.Sprintf("%d lines are no records and were passed over, of which the first %d are told above", bad, mostWarnings)})
	}
	if err == nil && sum.Lines == 0 && bad == 0 {
		if name == "-" {
			name = "standard input"
		}
		c.warn([]string{name + " holds no record: see what weir records printed"})
	}
	if err == nil && bad > 0 {
		err = errSaid
	}
	return err
}

// play prints what comes of the lines.
func (c *cli) play(p *replay.Player) (replay.Summary, error) {
	out := bufio.NewWriterSize(c.out, 1<<16)
	enc := json.NewEncoder(jsonOut{out})
	enc.SetEscapeHTML(false)
	sum, err := p.Play(enc.Encode)
	if err == nil {
		err = enc.Encode(struct {
			Summary replay.Summary `json:"summary"`
		}{sum})
	}
	return sum, errors.Join(err, out.Flush())
}

// replayOptions is the configuration as far as a replay looks at it.
func replayOptions(cfg config.Config) (replay.Options, error) {
	o := replay.Options{
		Rules: settings.Harvest(cfg.Harvest), Chain: settings.Checks(cfg).Chain(), Domains: settings.DomainChains(cfg),
		Bans: newReplayBans(cfg), Observe: cfg.Observe, Tier: settings.NewTiers(cfg, nil).Tier,
		Trap: harvest.NewTraps(cfg.Harvest.Traps).Match,
	}
	if len(cfg.Domains) > 0 { // without any, the lines say what was served
		served := map[string]config.Domain{}
		for _, d := range cfg.Domains {
			served[d.Name] = d
		}
		o.Served = func(name string) bool { _, ok := served[name]; return ok }
		o.Limit = func(name string) int64 {
			if d := served[name]; d.MaxMessageSize > 0 {
				return int64(d.MaxMessageSize)
			}
			return int64(cfg.SMTP.MaxMessageSize)
		}
	}
	return o, nil
}

// replayBans is guard's ledger on the clock of the records, with the guards
// that the file names.
type replayBans struct {
	ledger *firewall.Ledger
	now    time.Time
}

func newReplayBans(cfg config.Config) *replayBans {
	b := &replayBans{}
	b.ledger = firewall.NewLedger(firewall.Terms{First: cfg.Firewall.BanTTL, Max: cfg.Firewall.BanMax}, func() time.Time { return b.now })
	var guards []firewall.Guarded
	for _, p := range cfg.Firewall.NeverBan {
		guards = append(guards, firewall.Guarded{Guard: firewall.GuardNeverBan, Prefix: p})
	}
	for _, p := range cfg.SMTP.Forwarders {
		guards = append(guards, firewall.Guarded{Guard: firewall.GuardForwarder, Prefix: p})
	}
	b.ledger.SetGuards(firewall.NewGuards(guards))
	return b
}

// Convict implements replay.Bans.
func (b *replayBans) Convict(now time.Time, addr netip.Addr, why reply.Reason, r ref.Ref, widest int) (netip.Prefix, time.Time, bool) {
	b.now = now
	reason, err := firewall.ParseReason(string(why))
	if err != nil {
		return netip.Prefix{}, time.Time{}, false
	}
	s := b.ledger.ConvictNetwork(addr, reason, r, widest)
	return s.Ban.Prefix, s.Ban.Until, s.New
}

// Banned implements replay.Bans.
func (b *replayBans) Banned(now time.Time, addr netip.Addr) bool {
	b.now = now
	_, banned := b.ledger.Banned(addr)
	return banned
}

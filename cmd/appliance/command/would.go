package command

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"mailweir/cmd/appliance/mailapi"
	"mailweir/firewall/guard"
	"mailweir/record"
)

// wouldList prints the report, leaving out whom guard would have spared.
type wouldList struct {
	*cli
	ctx   context.Context
	guard *guard.Operator
	table *table
	n     int
	good  int
	away  error // why guard is not asked any more
}

func (c *cli) listWould(ctx context.Context, since time.Time) error {
	l := &wouldList{cli: c, ctx: ctx, guard: guard.NewOperator(c.runDir), table: newTable(c.out)}
	if err := mailapi.NewClient(c.runDir).Would(ctx, since, l.print); err != nil {
		return err
	}
	if err := l.table.flush(); err != nil {
		return err
	}
	if l.away != nil {
		c.warn([]string{"sources that an allow entry protects may be among them: " + l.away.Error()})
	}
	c.say("%s", l.sum())
	return nil
}

func (l *wouldList) print(w record.WouldBan) error {
	if l.spared(w) {
		return nil
	}
	l.n++
	note := ""
	if w.KnownGood {
		l.good++
		note = "KNOWN TO BE GOOD"
	}
	if l.json {
		return l.printJSON(w)
	}
	if l.n == 1 {
		l.table.row("SOURCE", "FIRST", "TIMES", "REASON", "RULE", "UNKNOWN", "VALID", "ACCEPTED", "LAST GUESS", "")
	}
	guess := "-"
	if len(w.Guesses) > 0 {
		guess = w.Guesses[len(w.Guesses)-1]
	}
	l.table.row(shortPrefix(w.Source), stamp(w.First.Time), strconv.Itoa(w.Times), string(w.Reason), w.Rule,
		strconv.Itoa(w.Unknown), strconv.Itoa(w.Valid), strconv.Itoa(w.Accepted), guess, note)
	return nil
}

// spared says whether guard protects the source: by an allow entry, or as a
// neighbour of ours.
func (l *wouldList) spared(w record.WouldBan) bool {
	if l.away != nil {
		return false
	}
	e, err := l.guard.Explain(l.ctx, w.Peer)
	if err != nil {
		l.away = err
		return false
	}
	return len(e.Guards) > 0
}

func (l *wouldList) sum() string {
	switch {
	case l.n == 0:
		return "nobody would have been banned"
	case l.good == 0:
		return fmt.Sprintf("%s would have been banned; none of them is known to be good", plural(l.n, "source"))
	}
	return fmt.Sprintf("%s would have been banned; %d known to be good: see weir why of each, and weir allow", plural(l.n, "source"), l.good)
}

package reply

// Action is what a judge wants done.
type Action string

// The actions, mildest first.
const (
	Pass   Action = "pass"
	Log    Action = "log" // recorded with what would have happened
	Defer  Action = "defer"
	Reject Action = "reject"
	Drop   Action = "drop" // refuse, close, and report to the firewall
)

// Reason is the countable name of a verdict: the same word in reply table,
// log, metric, record, ban and manual.
type Reason string

package xdp

import "time"

// AgeFlood makes the last flood that was seen one of d before.
func (t *Table) AgeFlood(d time.Duration) { t.flood.loud -= uint64(d) }

package xdp

import "time"

// FloodLooked is when the flood guard looked last.
func (t *Table) FloodLooked() uint64 { return t.flood.at }

// AgeFlood makes the last flood that was seen one of d before.
func (t *Table) AgeFlood(d time.Duration) { t.flood.loud -= uint64(d) }

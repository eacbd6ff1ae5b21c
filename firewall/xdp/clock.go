package xdp

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// moment ties the wall clock, in which a ban's end is decided and kept, to
// CLOCK_MONOTONIC, against which the packet program ends it. It is read anew
// for every change, so that a step of the wall clock shifts no later ban; one
// that stands keeps the length it was given.
type moment struct {
	wall   time.Time
	kernel uint64
}

func (t *Table) moment() (moment, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return moment{}, fmt.Errorf("read the kernel's clock: %w", err)
	}
	return moment{wall: t.opt.Clock(), kernel: uint64(ts.Nano())}, nil
}

// toKernel converts; a moment before boot is 0, one that lies beyond what
// fits ends never.
func (m moment) toKernel(at time.Time) uint64 {
	left := at.Sub(m.wall) // saturates
	if left < 0 {
		return m.kernel - min(m.kernel, uint64(-max(left, -math.MaxInt64)))
	}
	return m.kernel + uint64(left)
}

func (m moment) toWall(kernel uint64) time.Time {
	return m.wall.Add(time.Duration(int64(kernel - m.kernel)))
}

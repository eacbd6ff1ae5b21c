package xdp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"mailweir/firewall"
)

// sampleSize is that of struct sample in samples.h.
const sampleSize = 24

// Samples are some of the packets that were dropped since it was last called:
// at the most one in four milliseconds and processor, and as many as fit in the
// ring between two calls.
func (t *Table) Samples(ctx context.Context) (list []firewall.Sample, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	if t.ring == nil {
		if t.ring, err = ringbuf.NewReader(t.obj.Samples); err != nil {
			return nil, fmt.Errorf("read samples of drops: %w", err)
		}
	}
	var r ringbuf.Record
	t.ring.SetDeadline(time.Unix(1, 0)) // over: nobody wakes a reader, so it must not wait
	for {
		err := t.ring.ReadInto(&r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("read samples of drops: %w", err)
		}
		if s, ok := readSample(r.RawSample); ok {
			list = append(list, s)
		}
	}
}

func readSample(b []byte) (s firewall.Sample, ok bool) {
	if len(b) < sampleSize || int(b[19]) >= len(reasons) {
		return s, false
	}
	s.Port, s.Reason = binary.NativeEndian.Uint16(b[16:]), reasons[b[19]]
	if b[18] == 4 {
		s.Source = netip.AddrFrom4([4]byte(b[:4]))
	} else {
		s.Source = netip.AddrFrom16([16]byte(b[:16]))
	}
	return s, true
}

package bench

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailweir/lab"
)

// pace is the pause between two packets of a pacer, beside what a timer and a
// packet take by themselves.
const pace = 20 * time.Microsecond

// pacer sends packets of an address one after the other, so that the first one
// after a ban says when the ban came, some tens of microseconds late. They belong
// to no connection and say RST, which nobody answers. It goes before whatever
// else wants a processor, and leaves it at once: who sends without a pause takes
// one of two from those who are measured, fills the queue of the interface, and
// waits for milliseconds himself.
type pacer struct {
	stop atomic.Bool
	done sync.WaitGroup
	sent atomic.Int64
}

// goFirst has this thread run before all others, and its timers be exact.
func goFirst() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
}

func startPacer(b *testing.B, h *lab.Host, from netip.Addr, to netip.AddrPort) *pacer {
	b.Helper()
	p := &pacer{}
	var fd int
	err := h.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	packet, addr := reset(from, to), &unix.SockaddrInet4{Addr: to.Addr().As4()}
	p.done.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with its priority
		defer unix.Close(fd)
		if err := goFirst(); err != nil {
			b.Logf("the packets of an attacker come late: %v", err)
		}
		pause := unix.NsecToTimespec(pace.Nanoseconds())
		for !p.stop.Load() {
			if unix.Sendto(fd, packet, 0, addr) == nil {
				p.sent.Add(1)
			}
			_ = unix.Nanosleep(&pause, nil)
		}
	})
	return p
}

// more waits until three more packets are out; false tells of a pacer that is
// stuck.
func (p *pacer) more() bool {
	for want, i := p.sent.Load()+3, 0; p.sent.Load() < want; i++ {
		if i == 1000 {
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	return true
}

func (p *pacer) end() {
	p.stop.Store(true)
	p.done.Wait()
}

// reset is an IPv4 packet with a TCP segment of no connection (RFC 791 section
// 3.1, RFC 9293 section 3.1).
func reset(from netip.Addr, to netip.AddrPort) []byte {
	const ip, tcp = 20, 20
	p := make([]byte, ip+tcp)
	p[0], p[8], p[9] = 4<<4|ip/4, 64, unix.IPPROTO_TCP
	src, dst := from.As4(), to.Addr().As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	segment := p[ip:]
	binary.BigEndian.PutUint16(segment, 1) // from a port that nobody connects from
	binary.BigEndian.PutUint16(segment[2:], to.Port())
	segment[12], segment[13] = tcp/4<<4, 1<<2
	pseudo := append(append(src[:], dst[:]...), 0, unix.IPPROTO_TCP, 0, tcp)
	binary.BigEndian.PutUint16(segment[16:], checksum(append(pseudo, segment...)))
	return p // the kernel fills in the length and the sum of the header
}

// checksum is that of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

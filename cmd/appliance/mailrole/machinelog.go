package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"mailweir/record/syslog"
)

// machineLog passes on what the other programs of this machine log, sshd and
// the kernel too, to the collectors that our events go to: on the appliance
// image systemd-journald writes it to a socket that the service manager hands
// us (weir-journal.socket). So it is numbered and buffered as ours are.
type machineLog struct {
	socket *net.UnixConn
	send   func(*syslog.Message)
	now    func() time.Time
	log    *slog.Logger
}

// What is passed on at most: a stranger may have sshd write as much as he
// likes, and it must not take the room of events about mail.
const (
	machineRate  = 50 // a second
	machineBurst = 2000
)

// run passes on until ctx ends.
func (l machineLog) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.socket.Close() })
	defer stop()
	limit, left := rate.NewLimiter(machineRate, machineBurst), 0
	own := strconv.Itoa(os.Getpid())
	buf := make([]byte, 64<<10)
	for {
		n, err := l.socket.Read(buf)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.log.Error("the messages of this machine go to no collector any more", "error", err)
			return
		}
		m, err := syslog.ParseLocal(buf[:n])
		if err != nil || m.Origin.Proc == own { // ours come by themselves, and would come again for ever
			continue
		}
		m.Time = l.now()
		if !limit.AllowN(m.Time, 1) {
			left++
			continue
		}
		if left > 0 {
			l.send(&syslog.Message{Severity: syslog.Warning, Time: m.Time, ID: "LEFT_OUT", Params: []syslog.Param{{Name: "messages", Value: strconv.Itoa(left)}},
				Text: fmt.Sprintf("%d messages of this machine's other programs were not passed on: they came faster than %d a second", left, machineRate)})
			left = 0
		}
		l.send(&m)
	}
}

// pass sends m to every collector, but not to standard error: the journal,
// which has it already.
func (e *events) pass(m *syslog.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.from) == 0 {
		return
	}
	for _, c := range e.inUse {
		c.Send(m)
	}
}

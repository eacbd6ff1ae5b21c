package process

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What a service manager hears of a process, where there is one (sd_notify(3)):
// READY=1, RELOADING=1 and READY=1 again around a reload, WATCHDOG=1 as long as
// the process is well, STOPPING=1. weir run is the service manager of the roles
// that it starts.

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Error("the service manager does not hear", "error", err)
	}
}

// NotifyReady says that the process does its work.
func NotifyReady(log *slog.Logger) { notify(log, daemon.SdNotifyReady) }

// Serviced is what a process does for its service manager while it runs.
type Serviced struct {
	Log *slog.Logger
	// alive returns when the locks that all work needs could be had. One that
	// never does has the process killed and started again.
	Alive func()
	// reload reads the file again, at SIGHUP.
	Reload func(context.Context) error
}

// Begin does it from now on; at the end of ctx it says that the process stops.
// end waits until nothing more is said.
func (s Serviced) Begin(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	said := make(chan struct{})
	context.AfterFunc(ctx, func() { notify(s.Log, daemon.SdNotifyStopping); close(said) })
	hangup, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer close(ended)
		s.run(ctx, hangup)
	}()
	return func() { cancel(); signal.Stop(hangup); <-ended; <-said }
}

func (s Serviced) run(ctx context.Context, hangup <-chan os.Signal) {
	var due <-chan time.Time
	if every, err := daemon.SdWatchdogEnabled(true); err != nil {
		s.Log.Error("read what the watchdog wants", "error", err)
	} else if every > 0 {
		tick := time.NewTicker(every / 3)
		defer tick.Stop()
		due = tick.C
	}
	idle := make(chan struct{}, 1) // holds something while nobody tries whether we are alive
	idle <- struct{}{}
	for {
		select {
		case <-due:
			select {
			case <-idle:
				go func() {
					s.Alive()
					notify(s.Log, daemon.SdNotifyWatchdog)
					idle <- struct{}{}
				}()
			default: // it still tries
			}
		case <-hangup:
			notify(s.Log, reloadingNow())
			if err := s.Reload(ctx); err != nil {
				s.Log.Error("reload", "error", err)
			}
			NotifyReady(s.Log)
		case <-ctx.Done():
			return
		}
	}
}

// reloadingNow is what Type=notify-reload wants: with the time, so that READY=1
// is known to be of this reload.
func reloadingNow() string {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}

package process

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// managerSocket is what a service manager listens on.
type managerSocket struct {
	*net.UnixConn
	t *testing.T
}

func newManagerSocket(t *testing.T) managerSocket {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return managerSocket{c, t}
}

// hears returns the next message that is not one of those to skip.
func (m managerSocket) hears(within time.Duration, skip string) string {
	m.t.Helper()
	m.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 4096)
	for {
		n, err := m.Read(b)
		if err != nil {
			return ""
		}
		if s := string(b[:n]); s != skip {
			return s
		}
	}
}

// The whole conversation of a unit of Type=notify-reload with WatchdogSec=
// (sd_notify(3), systemd.service(5)).
func TestServiceManagerIsTold(t *testing.T) {
	m := newManagerSocket(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	stuck, reloads := make(chan struct{}, 1), 0
	wait := make(chan struct{})
	close(wait)
	hold := make(chan chan struct{}, 1)
	hold <- wait
	ctx, cancel := context.WithCancel(t.Context())
	end := Serviced{
		Log: slog.New(slog.DiscardHandler),
		Alive: func() {
			w := <-hold
			hold <- w
			select {
			case <-w:
			default:
				stuck <- struct{}{}
				<-w
			}
		},
		Reload: func(context.Context) error { reloads++; return fmt.Errorf("a bad file") },
	}.Begin(ctx)
	const ping = "WATCHDOG=1"
	if got := m.hears(10*time.Second, ""); got != ping {
		t.Fatalf("got %q, want a sign of life", got)
	}
	<-hold // from now on a lock cannot be had
	lock := make(chan struct{})
	hold <- lock
	<-stuck
	for m.hears(100*time.Millisecond, "") != "" {
	}
	if got := m.hears(200*time.Millisecond, ""); got != "" {
		t.Errorf("one that is stuck says %q", got)
	}
	close(lock)
	if got := m.hears(10*time.Second, ""); got != ping {
		t.Errorf("got %q of one that is well again", got)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	got := m.hears(10*time.Second, ping)
	state, at, ok := strings.Cut(got, "\nMONOTONIC_USEC=")
	if n, err := strconv.ParseInt(at, 10, 64); state != "RELOADING=1" || !ok || err != nil || n <= 0 {
		t.Errorf("got %q, want RELOADING=1 with the time", got)
	}
	if got := m.hears(10*time.Second, ping); got != "READY=1" {
		t.Errorf("got %q behind a reload, want READY=1", got)
	}
	cancel()
	if got := m.hears(10*time.Second, ping); got != "STOPPING=1" {
		t.Errorf("got %q at the end, want STOPPING=1", got)
	}
	end()
	if reloads != 1 {
		t.Errorf("%d reloads for one SIGHUP", reloads)
	}
}

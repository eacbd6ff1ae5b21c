// Package control is how the commands of weir talk to its roles: HTTP with
// JSON over a unix socket.
//
// A role makes its socket with Socket.Listen and answers with Serve, which
// lets in only the user ids it is given: the kernel says who is at the other
// end (SO_PEERCRED), the mode of the file is a second lock. Handlers are made
// by Handle (one value in, one out) and Stream (one value in, many out).
//
// A command holds a Client. What the other end refused comes back as *Error
// with the class that decides the exit code of the command; nobody at the
// other end is an *Error too, one that errors.Is finds to be ErrNotRunning.
package control

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// headerTimeout bounds how long a caller may take to say what it wants, and to ask
// again. Bodies have no deadline: `weir ban -` may read from a pipe. Answers have
// none: somebody reads them in a pager.
var headerTimeout = 10 * time.Second // less in a test

// Serve answers on l with h until ctx ends, then lets running answers finish
// for a second and returns nil. Callers whose user id is not in allow are told
// so and get nothing. l is closed.
func Serve(ctx context.Context, l *net.UnixListener, allow []uint32, h http.Handler) error {
	srv := &http.Server{
		Handler:           admit(allow, h),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       headerTimeout,
		ConnContext:       withPeer,
		ErrorLog:          log.New(discard{}, "", 0), // a caller that hangs up is no event
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close() // a stream that nobody reads must not hold up the stop
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

type peerKey struct{}

// noPeer stands for a caller the kernel said nothing about. No user has this
// id: it is the one that means "none" in setuid and chown.
const noPeer = ^uint32(0)

func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid := noPeer
	if u, ok := c.(*net.UnixConn); ok {
		if cred, err := PeerCredentials(u); err == nil {
			uid = cred.Uid
		}
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// PeerUID is the user id of the process that sent the request of ctx.
func PeerUID(ctx context.Context) uint32 {
	if uid, ok := ctx.Value(peerKey{}).(uint32); ok {
		return uid
	}
	return noPeer
}

// PeerCredentials asks the kernel which process connected c: its ids are
// those it had at connect, whoever holds the socket now.
func PeerCredentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, inner
}

func admit(allow []uint32, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uid := PeerUID(r.Context()); uid == noPeer || !slices.Contains(allow, uid) {
			w.Header().Set("Connection", "close")
			writeError(w, Refusef("user %s may not use this socket: run the command as %s", userName(uid), userNames(allow)))
			return
		}
		h.ServeHTTP(w, r)
	})
}

func userNames(uids []uint32) string {
	var s string
	for i, uid := range uids {
		if i > 0 {
			s += " or "
		}
		s += userName(uid)
	}
	return s
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

package guard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"mailweir/control"
	"mailweir/firewall"
	"mailweir/ref"
)

// maxReporters is how many connections the mail role may hold open.
const maxReporters = 64

// offencesPerSecond and offenceBurst bound how often the kernel is asked about
// sockets. A real attack of thousands of sources fits; a mail process gone mad
// costs no more than this.
const (
	offencesPerSecond = 2000
	offenceBurst      = 4000
)

// maxLeaving is how many descriptors may be on their way out at once, and
// takesAnswer how long a reporter may take to make room for an answer: he has
// asked for it, and has none of it unread.
const (
	maxLeaving  = 64
	takesAnswer = time.Second
)

// judge decides about an offence. after is what may wait until the answer is on
// its way: logs, the other engines, the sessions of the banned; it may be nil.
type judge func(ctx context.Context, fd int, req request) (r Result, after func())

// court takes offences from the mail role and answers them.
type court struct {
	uid     uint32 // of the mail role
	judge   judge
	tell    func(context.Context, request) []byte // the answer to a question
	now     func() time.Time
	limit   *rate.Limiter
	log     *slog.Logger
	counts  [len(outcomeNames)]atomic.Uint64
	strange sync.Map // of user ids that were turned away: each is logged once
	leaving chan struct{}
}

func newCourt(uid uint32, now func() time.Time, log *slog.Logger, judge judge) *court {
	return &court{uid: uid, judge: judge, now: now, log: log, limit: rate.NewLimiter(offencesPerSecond, offenceBurst), leaving: make(chan struct{}, maxLeaving)}
}

// serve answers on l until ctx ends. It closes l and every connection.
func (c *court) serve(ctx context.Context, l *net.UnixListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	places := make(chan struct{}, maxReporters)
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			wait(ctx, 100*time.Millisecond) // out of descriptors, most likely: they come back
			continue
		}
		select {
		case places <- struct{}{}:
			wg.Go(func() {
				defer func() { <-places }()
				c.hear(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// hear answers the messages of one connection, one after the other. Who sends
// what is no message is not listened to any more.
func (c *court) hear(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if !c.known(conn) {
		return
	}
	for {
		req, fds, err := receive(conn)
		var after func()
		switch {
		case errors.Is(err, errMalformed):
			c.answer(conn, Result{Outcome: Malformed})
		case err != nil:
		case len(fds) == 0:
			err = write(conn, c.tell(ctx, req))
		default:
			var result Result
			result, after = c.decide(ctx, fds[0], req)
			err = c.answer(conn, result)
		}
		if after != nil {
			after()
		}
		c.letGo(ctx, fds)
		if err != nil {
			return
		}
	}
}

// letGo closes what came with a message, and does not wait for it: closing
// takes as long as the mail role wants, should it have been taken over. A
// socket may be made to linger, and a file may be of a file system of its own
// that answers nothing.
func (c *court) letGo(ctx context.Context, fds []int) {
	for _, fd := range fds {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) // it may be no socket
		select {
		case c.leaving <- struct{}{}:
			go func() {
				unix.Close(fd)
				<-c.leaving
			}()
		case <-ctx.Done(): // the kernel closes it with all others
		}
	}
}

// write gives up on who does not read.
func write(conn *net.UnixConn, b []byte) error {
	conn.SetWriteDeadline(time.Now().Add(takesAnswer))
	_, err := conn.Write(b)
	return err
}

func (c *court) decide(ctx context.Context, fd int, req request) (Result, func()) {
	if !c.limit.AllowN(c.now(), 1) {
		return Result{Outcome: Busy}, nil
	}
	return c.judge(ctx, fd, req)
}

func (c *court) known(conn *net.UnixConn) bool {
	cred, err := control.PeerCredentials(conn)
	if err != nil {
		return false
	}
	if cred.Uid == c.uid {
		return true
	}
	if _, seen := c.strange.LoadOrStore(cred.Uid, true); !seen {
		c.log.Warn("a stranger came to the offence socket and was turned away", "uid", cred.Uid, "pid", cred.Pid)
	}
	return false
}

func (c *court) answer(conn *net.UnixConn, r Result) error {
	c.counts[r.Outcome].Add(1)
	return write(conn, r.append(nil))
}

func (c *court) offences() map[string]uint64 {
	m := map[string]uint64{}
	for o, name := range outcomeNames {
		if n := c.counts[o].Load(); n > 0 {
			m[name] = n
		}
	}
	return m
}

// receive reads one message, with just one socket, or none with a question. fds
// are the caller's to close, also where there is an error: there is room for
// two, the kernel itself closes what is more (unix(7), SCM_RIGHTS).
func receive(conn *net.UnixConn) (req request, fds []int, err error) {
	var b [questionSize + 1]byte
	oob := make([]byte, unix.CmsgSpace(2*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(b[:], oob)
	fds = descriptors(oob[:oobn]) // an empty message, which Go takes for the end, can bring some
	if err != nil {
		return request{}, fds, err
	}
	if about, ok := parseQuestion(b[:n]); len(fds) == 0 && ok {
		return request{about: about}, nil, nil
	}
	if what, number, ok := parseAsk(b[:n]); len(fds) == 0 && ok {
		return request{reason: firewall.Reason(what), ref: ref.Ref(number)}, nil, nil
	}
	req, err = parseRequest(b[:n])
	if err == nil && (len(fds) != 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0) {
		err = errMalformed
	}
	return req, fds, err
}

func descriptors(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if some, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, some...)
		}
	}
	return fds
}

// judge is what the server makes of an offence: it asks the kernel who the
// socket's peer is, the ledger what that earns, and has the first engine
// enforce it before it answers. Everything else comes after.
func (s *Server) judge(ctx context.Context, fd int, req request) (Result, func()) {
	policy := s.currentPolicy()
	peer, outcome := s.witness.look(fd, policy.ports())
	if outcome == NoData && req.reason == firewall.Geo {
		outcome = 0 // the handshake proves the address, and the address is the offence
	}
	if outcome == 0 && !s.settledFor(peer) {
		peer, outcome = s.witness.source(fd, peer)
	}
	if outcome == 0 && req.reason == firewall.Geo && !policy.banishes(peer) {
		outcome = Elsewhere
	}
	if outcome != 0 {
		return Result{Outcome: outcome}, nil
	}
	s.order.Lock()
	sentence := s.ledger.ConvictNetwork(peer, req.reason, req.ref, int(req.widest))
	enforced := sentence.New && s.engines.apply(ctx, []firewall.Ban{sentence.Ban}, nil)
	s.order.Unlock()
	if !sentence.New {
		return answerFor(sentence, enforced), nil
	}
	return answerFor(sentence, enforced), func() {
		s.engines.wake()
		s.resetSessions(sentence.Ban.Prefix)
		s.logs.banned(sentence.Ban, "", enforced)
	}
}

// tell answers a question of the mail role.
func (s *Server) tell(ctx context.Context, req request) []byte {
	switch {
	case req.about.IsValid():
		return s.standing(req.about).append(nil)
	case req.reason == askSamples:
		return s.samples.answer()
	case req.reason == askEvents:
		return s.eventsAnswer(uint64(req.ref))
	case req.reason == askFigures:
		return s.figures.recent(s.cfg.Now(), func() []byte { return s.figuresAnswer(ctx) })
	}
	return s.answer.recent(s.cfg.Now(), func() []byte { return s.alarmsAnswer(ctx) })
}

// standing says whether an address is banned.
func (s *Server) standing(a netip.Addr) Result {
	b, stands := s.ledger.Banned(a)
	if !stands || len(s.ledger.Guards().Covering(netip.PrefixFrom(a, a.BitLen()))) > 0 {
		return Result{Outcome: NotBanned}
	}
	return Result{Outcome: Already, Ban: b}
}

// settledFor says that no new ban can come of an offence of peer: no proof is
// needed, and none is used up.
func (s *Server) settledFor(peer netip.Addr) bool {
	if !peer.IsValid() {
		return false
	}
	if _, banned := s.ledger.Banned(peer); banned {
		return true
	}
	_, vetoed := s.ledger.Guards().Veto(netip.PrefixFrom(peer, peer.BitLen()))
	return vetoed
}

func answerFor(sentence firewall.Sentence, enforced bool) Result {
	switch {
	case sentence.Guard.Guard != "":
		return Result{Outcome: Vetoed, Guard: sentence.Guard.Guard}
	case !sentence.New:
		return Result{Outcome: Already, Ban: sentence.Ban}
	case !enforced:
		return Result{Outcome: Pending, Ban: sentence.Ban}
	}
	return Result{Outcome: Banned, Ban: sentence.Ban}
}

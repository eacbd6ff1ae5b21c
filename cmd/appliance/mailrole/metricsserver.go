package mailrole

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"mailweir/record"
)

// alarmMetrics stands while nobody can read metrics that somebody asked for.
const alarmMetrics = "metrics"

// maxScrapers is how many connections are taken at a time; others wait in the
// kernel. The mail role's memory and descriptors are for mail.
const maxScrapers = 32

// metricsServer answers GET /metrics at metrics.listen. It asks for no password
// and tells nothing of strangers: whom it shall not answer, the address keeps
// out.
type metricsServer struct {
	from   prometheus.Gatherer
	alarms record.Alarms
	log    *slog.Logger

	at   string
	stop func()
}

// use listens at another address from now on, until ctx ends; "": nowhere. One
// that cannot be had is an alarm: mail goes on.
func (s *metricsServer) use(ctx context.Context, running *sync.WaitGroup, at string) {
	if s.stop != nil && at == s.at {
		return
	}
	if s.stop != nil {
		s.stop()
	}
	s.at, s.stop = at, nil
	if at == "" {
		s.alarms.Clear(alarmMetrics, "nobody asks for them")
		return
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		s.alarms.Alarm(alarmMetrics, fmt.Sprintf("metrics cannot be read: %v: set metrics.listen to an address of this machine and a free port, and weir reload", err))
		return
	}
	s.alarms.Clear(alarmMetrics, "they can be read")
	server := &http.Server{
		Handler: s.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	l = netutil.LimitListener(l, maxScrapers)
	ended := make(chan struct{})
	running.Go(func() {
		defer close(ended)
		server.Serve(l)
	})
	stop := context.AfterFunc(ctx, func() { server.Close() })
	s.stop = func() { stop(); server.Close(); <-ended }
}

func (s *metricsServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.from, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError}))
	return mux
}

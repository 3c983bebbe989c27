package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Listener serves metrics over plain HTTP. The nil Listener serves none.
type Listener struct{ net.Listener }

// Listen opens the port, so that one that is taken is found out at the start; nil where the options ask for none.
func Listen(o Options) (*Listener, error) {
	if o.MetricsListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", o.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("metrics-listen %q: %w (give another port, or none)", o.MetricsListen, err)
	}
	return &Listener{l}, nil
}

// Serve serves GET /metrics until ctx ends (nil) or the listener fails, and closes it.
func (l *Listener) Serve(ctx context.Context, from prometheus.Gatherer) error {
	if l == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l.Listener); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics-listen %s: %w", l.Addr(), err)
	}
	return nil
}

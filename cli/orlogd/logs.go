package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/tail"
	"github.com/orlog-io/orlog/services/gateway"
)

// connectTimeout bounds how long orlogd waits for the log at its start.
const connectTimeout = 2 * time.Minute

// logs are the log and what goes with it.
type logs struct {
	server        *jetstream.Server // nil with an external cluster, like the next two
	made          *credentials
	clients       *gateway.LogClients
	conn          *jetstream.Conn
	log, volatile events.Log
	url           string
}

// openLogs starts the embedded server, or connects to the external one, and opens both streams. newest is
// what the projections or the notary have seen: where that is not 0, a missing or shorter log is a lost one, and refused.
func openLogs(ctx context.Context, o options, newest events.Sequence, seen *observation, logger *slog.Logger) (_ *logs, err error) {
	l := &logs{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	url, file := o.natsURL, o.natsCredentials
	if url == "" {
		if err := l.startServer(o, logger); err != nil {
			return nil, err
		}
		url, file = o.localNATS(), l.made.file
	}
	l.url = url
	// Where integrators and tests find the log.
	if err := os.WriteFile(filepath.Join(o.dataDir, "nats-url"), []byte(url+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	to := jetstream.Options{URL: url, Name: "orlogd", Credentials: file, Authority: o.natsCA,
		Replicas: o.natsReplicas, MustExist: newest > 0, MinSequence: newest, Registry: seen.registry, Tracer: seen.tracer,
		OnError: func(err error) { logger.Warn("log connection", events.LogError, err) }}
	if l.server != nil {
		to.Server = l.server
	}
	l.conn, err = jetstream.Connect(ctx, to)
	if err != nil {
		return nil, err
	}
	log, err := l.conn.Log(ctx)
	if err != nil {
		return nil, err
	}
	l.log = tail.New(log) // three projections and the notary read all of it
	if l.volatile, err = l.conn.Volatile(ctx); err != nil {
		return nil, err
	}
	if err := l.conn.ServeReaders(); err != nil {
		return nil, fmt.Errorf("serving readers of the log: %w", err)
	}
	return l, nil
}

func (l *logs) close() error {
	var errs []error
	for _, c := range []events.Log{l.log, l.volatile} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if l.conn != nil {
		l.conn.Close()
	}
	if l.server != nil {
		l.server.Shutdown()
	}
	return errors.Join(errs...)
}

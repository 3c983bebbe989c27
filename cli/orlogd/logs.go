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
)

// connectTimeout bounds how long orlogd waits for the log at its start.
const connectTimeout = 2 * time.Minute

// logs are the log and what goes with it.
type logs struct {
	server        *jetstream.Server // nil with an external cluster
	conn          *jetstream.Conn
	log, volatile events.Log
	url           string
}

// openLogs starts the embedded server, or connects to the external one, and opens both streams. newest is
// what the projections or the notary have seen: where that is not 0, a missing or shorter log is a lost one, and refused.
func openLogs(ctx context.Context, o options, newest events.Sequence, logger *slog.Logger) (_ *logs, err error) {
	l := &logs{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	url, credentials := o.natsURL, o.natsCredentials
	if url == "" {
		var access *jetstream.Access
		if access, credentials, err = grantAccess(o); err != nil {
			return nil, err
		}
		l.server, err = jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(o.dataDir, "log"), Host: o.natsHost, Port: o.natsPort,
			Access: access, Logger: logger})
		if err != nil {
			return nil, err
		}
		url = l.server.URL()
	}
	l.url = url
	// Where integrators and tests find the log.
	if err := os.WriteFile(filepath.Join(o.dataDir, "nats-url"), []byte(url+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	l.conn, err = jetstream.Connect(ctx, jetstream.Options{URL: url, Name: "orlogd", Credentials: credentials,
		Replicas: o.natsReplicas, MustExist: newest > 0, MinSequence: newest,
		OnError: func(err error) { logger.Warn("log connection", "error", err) }})
	if err != nil {
		return nil, err
	}
	if l.log, err = l.conn.Log(ctx); err != nil {
		return nil, err
	}
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

package jetstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/orlog-io/orlog/events"
)

// maxPayload is the largest message: an event of the largest size, its headers, and room to spare.
const maxPayload = events.MaxEventBytes + 1<<20

// ServerOptions describes an embedded NATS server.
type ServerOptions struct {
	// Dir holds the streams. Required.
	Dir string
	// Host and Port to listen on: "" is 127.0.0.1, 0 is 4222, -1 a free port.
	Host string
	Port int
	// Name of the server; "" is "orlog".
	Name string
	// Token that clients must present; "" lets everybody in who can reach the port.
	Token string
	// TLS, where not nil, is demanded of clients.
	TLS *tls.Config
	// Logger gets the server's warnings and errors; nil is slog.Default().
	Logger *slog.Logger
	// StartTimeout is how long the server may take to recover its streams; 0 is two minutes.
	StartTimeout time.Duration
}

// Server is an embedded NATS server with JetStream, every append on disk before it is acknowledged.
type Server struct {
	nats  *server.Server
	token string
}

// StartServer starts a server and returns when it accepts clients. The caller owns it: see Shutdown.
func StartServer(o ServerOptions) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("log server: Dir is required: the directory that holds the log")
	}
	s, err := server.NewServer(natsOptions(o))
	if err != nil {
		return nil, fmt.Errorf("log server in %s: %w", o.Dir, err)
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	quiet := &serverLog{to: logger.With("component", "log server")}
	s.SetLoggerV2(quiet, false, false, false)
	s.Start()
	timeout := o.StartTimeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}
	if !s.ReadyForConnections(timeout) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("log server in %s: not ready after %v: is the directory writable, the port %d free? last error: %s", o.Dir, timeout, o.Port, quiet.lastError())
	}
	return &Server{nats: s, token: o.Token}, nil
}

func natsOptions(o ServerOptions) *server.Options {
	host, name := o.Host, o.Name
	if host == "" {
		host = "127.0.0.1"
	}
	if name == "" {
		name = "orlog"
	}
	return &server.Options{
		ServerName:            name,
		Host:                  host,
		Port:                  o.Port,
		JetStream:             true,
		StoreDir:              o.Dir,
		SyncAlways:            true, // an acknowledged event survives power loss
		JetStreamLimits:       server.JSLimitOpts{DefaultMaxConsumers: 10000},
		MaxPayload:            maxPayload,
		MaxPending:            256 << 20, // a reader that is slow is slowed down by flow control, not cut off
		Authorization:         o.Token,
		TLS:                   o.TLS != nil,
		TLSConfig:             o.TLS,
		NoSigs:                true,
		DisableShortFirstPing: true,
	}
}

// URL is where clients connect.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Shutdown stops the server and returns when its files are closed.
func (s *Server) Shutdown() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

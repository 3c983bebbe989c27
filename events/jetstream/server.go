package jetstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
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
	// Access says who may connect, and what for; nil lets everybody in who can reach the port, for everything.
	Access *Access
	// Token that clients must present, where Access is nil; "" for none.
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
	options, err := natsOptions(o)
	if err != nil {
		return nil, err
	}
	stored, err := storedStreams(o.Dir)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(options)
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
	if err := checkLoaded(s, stored); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("log server in %s: %w; the server's last error: %s", o.Dir, err, quiet.lastError())
	}
	return &Server{nats: s, token: o.Token}, nil
}

func natsOptions(o ServerOptions) (*server.Options, error) {
	host, name := o.Host, o.Name
	if host == "" {
		host = "127.0.0.1"
	}
	if name == "" {
		name = "orlog"
	}
	options := &server.Options{
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
	if o.Access == nil {
		return options, nil
	}
	config, err := o.Access.config()
	if err == nil {
		err = options.ProcessConfigString(config)
	}
	if err == nil {
		err = adoptStreams(o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("log server in %s: %w", o.Dir, err)
	}
	return options, nil
}

// adoptStreams takes over the streams of a server that ran without Access: the server keeps each account's
// in a folder of its own, and without accounts all is in the global one's.
func adoptStreams(dir string) error {
	root := filepath.Join(dir, server.JetStreamStoreDir)
	to := filepath.Join(root, logAccount)
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(filepath.Join(root, server.DEFAULT_GLOBAL_ACCOUNT), to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// URL is where clients connect.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Shutdown stops the server and returns when its files are closed.
func (s *Server) Shutdown() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

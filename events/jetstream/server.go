package jetstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/orlog-io/orlog/events"
)

// maxPayload is the largest message: an event of the largest size, its headers, and room to spare.
const maxPayload = events.MaxEventBytes + 1<<20

// tlsTimeout bounds a client's TLS handshake: a machine that is starting many pods is slow.
const tlsTimeout = 10 * time.Second

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
	// TLS, where not nil, is demanded of clients; not of those in this process: see Options.Server.
	TLS *tls.Config
	// Closed: the port is not opened before Open is called.
	Closed bool
	// Logger gets the server's warnings and errors; nil is slog.Default().
	Logger *slog.Logger
	// StartTimeout is how long the server may take to recover its streams; 0 is two minutes.
	StartTimeout time.Duration
}

// Server is an embedded NATS server with JetStream, every append on disk before it is acknowledged.
type Server struct {
	nats   *server.Server
	o      ServerOptions
	room   string // a directory in memory for what need not be on disk; "": none (staging.go)
	logger *slog.Logger

	mu   sync.Mutex
	open bool
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
	logger = logger.With("component", "log server")
	quiet := &serverLog{to: logger}
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
	room, err := stagingRoom(o.Dir)
	if err != nil {
		logger.Info("batches of unrelated appends are staged on disk, which is slower", "reason", err)
	}
	return &Server{nats: s, o: o, logger: logger, room: room, open: !o.Closed}, nil
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
		TLSTimeout:            tlsTimeout.Seconds(),
		DontListen:            o.Closed,
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

// SetAccess changes who may connect. Whoever loses access is cut off before it returns; the others notice
// nothing. The server must have been started with Access.
func (s *Server) SetAccess(a *Access) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Access == nil || a == nil {
		return errors.New("log server: access cannot be changed where there was none at the start")
	}
	o := s.o
	o.Access = a
	// Twice: a reload makes new accounts, but only the next one connects what they import.
	for range 2 {
		options, err := natsOptions(o)
		if err != nil {
			return err
		}
		if err := s.nats.ReloadOptions(options); err != nil {
			return fmt.Errorf("log server: changing access: %w", err)
		}
	}
	s.o = o
	return nil
}

// Open opens the port of a server that was started Closed. Once is enough.
func (s *Server) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return nil
	}
	ready := make(chan struct{})
	s.nats.AcceptLoop(ready) // returns when it listens, or has failed
	<-ready
	if s.nats.Addr() == nil {
		return fmt.Errorf("log server: port %d of %q cannot be listened on: is it free?", s.o.Port, s.o.Host)
	}
	s.open = true
	return nil
}

// InProcessConn is a connection to the server without a network in between: see [Options].
func (s *Server) InProcessConn() (net.Conn, error) { return s.nats.InProcessConn() }

// URL is where clients connect.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Shutdown stops the server and returns when its files are closed.
func (s *Server) Shutdown() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
	if s.room == "" {
		return
	}
	if err := os.RemoveAll(s.room); err != nil {
		s.logger.Warn("what was staged in memory is left", "error", err)
	}
}

package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
)

// Embedded is a [Server]. It is an interface so that programs without one, of which every machine runs some, need not
// hold a whole NATS server in memory.
type Embedded interface {
	nats.InProcessConnProvider
	staging(stream string) *staging
}

// Options says which log to connect to and what is known about it.
type Options struct {
	// URL of the server or, comma-separated, of the servers of a cluster.
	URL string
	// Name of this client, shown by the server.
	Name string
	// Server, where not nil, is this process's own [Server]: then URL is not used, and no network stands in between.
	Server Embedded
	// Token and Credentials (a file: see package credential; or an operator's .creds): how to authenticate,
	// where the server asks for it.
	Token       string
	Credentials string
	// Authority is a file with the certificates (PEM) that the server's is checked against; "" for those in
	// Credentials or, where that has none, the system's. With either, a server without TLS is refused.
	Authority string
	// TLS replaces what follows from Authority.
	TLS *tls.Config
	// Replicas of the streams where this client creates them; 0 is 1. A cluster takes 3 or 5.
	Replicas int

	// MustExist: a projection or checkpoint of this log exists, so a missing stream is a lost one: never
	// create it. MinSequence is the newest sequence that anybody here has seen: a log that ends before it
	// was cut short. Both make Log fail with instructions; the volatile log ignores them.
	MustExist   bool
	MinSequence events.Sequence

	// dedupe is how long the server of a stream made here recognises a message ID by itself; 0 is two minutes.
	dedupe time.Duration

	// Patience bounds the retries of one call whose ctx has no deadline; 0 is 15 seconds.
	Patience time.Duration
	// OnError is told what goes wrong outside of any call (connection lost, permission denied). May be nil.
	// It must not block.
	OnError func(error)

	// Registry gets the metrics of appends (nil: none), one connection's. Tracer makes a span of each append of an
	// event that belongs to a trace (nil: none).
	Registry prometheus.Registerer
	Tracer   trace.TracerProvider
}

// Conn is a connection to NATS that reconnects for ever.
type Conn struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	opts Options

	metrics   *metrics // nil: none
	requests  requests
	confining chan struct{} // holds a token for each request of a reader that is being passed on

	mu sync.Mutex
	// reconnected is closed and replaced whenever the connection has been restored: everything that was in
	// flight is in doubt.
	reconnected chan struct{}
	epoch       uint64
	turnedAway  time.Time   // when that was last reported
	refused     atomic.Bool // the server does not let this client in, as it said last
	logs        []*log
	listeners   map[string]*listener // by node
	done        chan struct{}        // closed by Close
	once        sync.Once
}

// Connect connects, trying until ctx ends.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	if o.dedupe == 0 {
		o.dedupe = dedupe
	}
	c := &Conn{opts: o, reconnected: make(chan struct{}), listeners: map[string]*listener{}, done: make(chan struct{}),
		confining: make(chan struct{}, confining)}
	var err error
	if c.metrics, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
	options, err := c.natsOptions()
	if err != nil {
		return nil, fmt.Errorf("connecting to the log at %s: %w", o.URL, err)
	}
	wait, url := newBackoff(), o.URL
	if o.Server != nil {
		url = nats.DefaultURL // not used; but a scheme of TLS would be heeded
	}
	for {
		nc, err := nats.Connect(url, options...)
		if err == nil {
			c.nc = nc
			break
		}
		if permanent(err) {
			return nil, fmt.Errorf("connecting to the log at %s: %w%s", o.URL, err, o.hint(err))
		}
		if waitErr := wait.sleep(ctx, nil); waitErr != nil {
			return nil, fmt.Errorf("connecting to the log at %s: %w: %w: %w", o.URL, events.ErrUnavailable, err, waitErr)
		}
	}
	js, err := jetstream.New(c.nc)
	if err == nil {
		err = c.requests.start(c.nc)
	}
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connecting to the log at %s: %w", o.URL, err)
	}
	c.js = js
	return c, nil
}

// hint says what to do about credentials that the server does not take, or a server that is not trusted.
func (o Options) hint(err error) string {
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return ": the server's certificate is of no authority that is trusted here: the credentials' file should hold the authority's certificate, or name one"
	}
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return ": the server offers no TLS, and an authority to check it against was given: is this the log's server?"
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return ": the server asks for no credentials, and such were given: is this the log's server?"
	case !errors.Is(err, nats.ErrAuthorization):
		return ""
	case o.Credentials == "" && o.Token == "":
		return ": the server asks for credentials, and none were given"
	case o.Credentials != "":
		return ": the server does not know the credentials in " + o.Credentials
	}
	return ": the server does not know the token"
}

func permanent(err error) bool {
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return true
	}
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, nats.ErrNkeysNotSupported)
}

func (c *Conn) natsOptions() ([]nats.Option, error) {
	o := []nats.Option{
		nats.Name(c.opts.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(c.reconnectDelay),
		nats.ReconnectBufSize(-1), // fail at once while disconnected: a late duplicate is worse than a retry
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectHandler(func(*nats.Conn) { c.onReconnect() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.report(fmt.Errorf("connection to the log lost: %w", err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrAuthorization) {
				c.refused.Store(true)
				if !c.sayAgain() {
					return
				}
			}
			c.requests.refuse(err)
			if sub != nil {
				err = fmt.Errorf("subscription on %s: %w", sub.Subject, err)
			}
			c.report(fmt.Errorf("%w%s", err, c.opts.hint(err)))
		}),
	}
	who, err := c.opts.authenticate()
	return append(o, who...), err
}

func (c *Conn) report(err error) {
	if c.opts.OnError != nil {
		c.opts.OnError(err)
	}
}

const (
	// reconnectWait is how long a connection that was lost waits before it tries again, and half as long again
	// at random.
	reconnectWait = 60 * time.Millisecond
	// refusedWait is that for a client that the server does not let in.
	refusedWait = 5 * time.Second
)

// reconnectDelay implements nats.ReconnectDelayHandler.
func (c *Conn) reconnectDelay(int) time.Duration {
	if c.refused.Load() {
		return refusedWait
	}
	return reconnectWait + rand.N(reconnectWait/2)
}

// sayAgain reports whether it is time to report once more that the server turns this client away: the client
// tries again for ever, as for any other reason.
func (c *Conn) sayAgain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.turnedAway.IsZero() && time.Since(c.turnedAway) < time.Minute {
		return false
	}
	c.turnedAway = time.Now()
	return true
}

func (c *Conn) onReconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.refused.Store(false)
	close(c.reconnected)
	c.reconnected = make(chan struct{})
}

// connection names the present connection, and gives a channel that closes when it has been replaced.
func (c *Conn) connection() (uint64, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.reconnected
}

// Close closes the logs and the tunnels that came from the connection, and the connection.
func (c *Conn) Close() {
	c.once.Do(func() {
		close(c.done)
		for range cap(c.confining) { // waits for those who hold one
			c.confining <- struct{}{}
		}
	})
	c.mu.Lock()
	logs := c.logs
	c.logs = nil
	c.mu.Unlock()
	for _, l := range logs {
		l.Close()
	}
	c.nc.Close()
}

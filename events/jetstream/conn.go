package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
)

// Options says which log to connect to and what is known about it.
type Options struct {
	// URL of the server or, comma-separated, of the servers of a cluster.
	URL string
	// Name of this client, shown by the server.
	Name string
	// Token, Credentials (a file: see MakeCredentials; or an operator's .creds) and TLS: how to authenticate,
	// where the server asks for it.
	Token       string
	Credentials string
	TLS         *tls.Config
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
}

// Conn is a connection to NATS that reconnects for ever.
type Conn struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	opts Options

	requests  requests
	confining chan struct{} // holds a token for each request of a reader that is being passed on

	mu sync.Mutex
	// reconnected is closed and replaced whenever the connection has been restored: everything that was in
	// flight is in doubt.
	reconnected chan struct{}
	epoch       uint64
	turnedAway  time.Time // when that was last reported
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
	options, err := c.natsOptions()
	if err != nil {
		return nil, fmt.Errorf("connecting to the log at %s: %w", o.URL, err)
	}
	wait := newBackoff()
	for {
		nc, err := nats.Connect(o.URL, options...)
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

// hint says what to do about credentials that the server does not take.
func (o Options) hint(err error) string {
	switch {
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
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted)
}

func (c *Conn) natsOptions() ([]nats.Option, error) {
	o := []nats.Option{
		nats.Name(c.opts.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(50 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
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
			if errors.Is(err, nats.ErrAuthorization) && !c.sayAgain() {
				return
			}
			c.requests.refuse(err)
			if sub != nil {
				err = fmt.Errorf("subscription on %s: %w", sub.Subject, err)
			}
			c.report(fmt.Errorf("%w%s", err, c.opts.hint(err)))
		}),
	}
	if c.opts.Token != "" {
		o = append(o, nats.Token(c.opts.Token))
	}
	if c.opts.Credentials != "" {
		own, err := credentials(c.opts.Credentials)
		if err != nil {
			return nil, err
		}
		o = append(o, own)
	}
	if c.opts.TLS != nil {
		o = append(o, nats.Secure(c.opts.TLS))
	}
	return o, nil
}

func (c *Conn) report(err error) {
	if c.opts.OnError != nil {
		c.opts.OnError(err)
	}
}

// sayAgain reports whether it is time to report once more that the server turns this client away: the client
// tries again many times a second, as for any other reason.
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

package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authentication/authenticator"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/access"
)

// errRevoked: a client shows a certificate whose key is in the ledger as revoked.
var errRevoked = errors.New("the client certificate has been revoked")

// publicKey is the key of the certificate that a request's client showed, nil where it showed none.
func publicKey(r *http.Request) []byte {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo
}

// revokingAuthenticator turns away who shows a revoked certificate, whatever else they show.
type revokingAuthenticator struct {
	authenticator.Request
	ledger *access.Ledger
}

// AuthenticateRequest implements authenticator.Request.
func (a revokingAuthenticator) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if key := publicKey(r); key != nil && a.ledger.Revoked(key) {
		return nil, false, errRevoked
	}
	return a.Request.AuthenticateRequest(r)
}

// clientListener keeps the connections of clients with certificates, so that they can be cut: a watch or an
// exec that has begun would otherwise go on after the certificate is revoked.
type clientListener struct {
	net.Listener
	mu   sync.Mutex
	open map[string]*clientConn // by the client's address
}

type clientConn struct {
	net.Conn
	from *clientListener
	key  []byte // of the client's certificate, once a request has come
	once sync.Once
}

func trackClients(l net.Listener) *clientListener {
	return &clientListener{Listener: l, open: map[string]*clientConn{}}
}

// Accept implements net.Listener.
func (l *clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &clientConn{Conn: conn, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[conn.RemoteAddr().String()] = c
	return c, nil
}

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.once.Do(func() {
		c.from.mu.Lock()
		defer c.from.mu.Unlock()
		if at := c.RemoteAddr().String(); c.from.open[at] == c {
			delete(c.from.open, at)
		}
	})
	return c.Conn.Close()
}

// recognise notes whose connection a request came by. It stands before authentication, so that a key that is
// revoked meanwhile is either cut here or turned away there.
func (l *clientListener) recognise(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key := publicKey(r); key != nil {
			l.mu.Lock()
			if c := l.open[r.RemoteAddr]; c != nil {
				c.key = key
			}
			l.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// cut closes the connections of revoked clients.
func (l *clientListener) cut(revoked func(key []byte) bool) error {
	l.mu.Lock()
	var gone []*clientConn
	for _, c := range l.open {
		if c.key != nil && revoked(c.key) {
			gone = append(gone, c)
		}
	}
	l.mu.Unlock()
	var errs []error
	for _, c := range gone {
		errs = append(errs, ignoreClosed(c.Conn.Close()))
	}
	return errors.Join(errs...)
}

// cutRevoked cuts off whoever is revoked, until ctx ends.
func (g *Gateway) cutRevoked(ctx context.Context) {
	for {
		changed := g.settings.Ledger.Changed()
		if err := g.settings.clients.cut(g.settings.Ledger.Revoked); err != nil {
			g.settings.Logger.Warn("gateway: closing the connection of a revoked client", events.LogError, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

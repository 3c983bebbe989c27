package gateway

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

const (
	// certificateTrust is for how long a verified client certificate is not verified again: as long as upstream
	// trusts a bearer token that it has looked at. A certificate authority that is replaced takes effect after that.
	certificateTrust = 10 * time.Second
	// knownCertificates bounds how many are remembered.
	knownCertificates = 4096
)

// certificateMemory remembers whom client certificates stand for. Upstream verifies the signatures anew for each
// request, though a connection's certificate stays the same: a twentieth of what creating a pod takes.
type certificateMemory struct {
	authenticator.Request
	now func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]knownCertificate
}

type knownCertificate struct {
	response *authenticator.Response
	until    time.Time
}

func newCertificateMemory(inner authenticator.Request) *certificateMemory {
	return &certificateMemory{Request: inner, now: time.Now, known: map[[sha256.Size]byte]knownCertificate{}}
}

// AuthenticateRequest implements authenticator.Request.
func (m *certificateMemory) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if !onlyCertificate(r) {
		return m.Request.AuthenticateRequest(r)
	}
	hash, now := sha256.New(), m.now()
	for _, c := range r.TLS.PeerCertificates {
		hash.Write(c.Raw)
	}
	id := [sha256.Size]byte(hash.Sum(nil))
	m.mu.Lock()
	found := m.known[id]
	m.mu.Unlock()
	if found.response != nil && now.Before(found.until) {
		return found.response, true, nil
	}
	response, ok, err := m.Request.AuthenticateRequest(r)
	if err != nil || !ok || response == nil {
		return response, ok, err
	}
	until := now.Add(certificateTrust)
	for _, c := range r.TLS.PeerCertificates {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= knownCertificates {
		clear(m.known)
	}
	m.known[id] = knownCertificate{response, until}
	return response, true, nil
}

// onlyCertificate: the request shows a client certificate and nothing else that could say who makes it.
func onlyCertificate(r *http.Request) bool {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.Header.Get("Authorization") != "" || r.Header.Get("Sec-WebSocket-Protocol") != "" {
		return false
	}
	for name := range r.Header {
		if len(name) >= len("X-Remote-") && strings.EqualFold(name[:len("X-Remote-")], "X-Remote-") {
			return false
		}
	}
	return true
}

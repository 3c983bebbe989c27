package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// lookAgain is how often a certificate that is being served is looked at.
const lookAgain = time.Hour

// Authority is the cluster's certificate authority, for what this process serves beside the gateway. One
// process at a time may use a data folder.
type Authority struct{ pki *pki }

// OpenAuthority opens the authority in dataDir/pki, and makes it on first start: the one that a gateway with
// the same DataDir uses.
func OpenAuthority(dataDir string) (*Authority, error) {
	p, err := openPKI(filepath.Join(dataDir, "pki"), nil, time.Now)
	if err != nil {
		return nil, err
	}
	return &Authority{p}, nil
}

// HostAddress is an address of this host that others can reach it at.
func HostAddress() (net.IP, error) { return hostAddress(net.IPv4zero) }

// Bundle is the authority's certificate in PEM.
func (a *Authority) Bundle() []byte { return a.pki.bundle() }

// Serve is a TLS server's configuration with a certificate for the names, which are IP addresses or DNS names.
// It is kept in name.crt and name.key and replaced while serving when it grows old.
func (a *Authority) Serve(name string, names []string) (*tls.Config, error) {
	s := &served{pki: a.pki, name: name, names: names}
	if _, err := s.certificate(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: s.certificate, MinVersion: tls.VersionTLS12}, nil
}

// served is a certificate in use.
type served struct {
	pki   *pki
	name  string
	names []string

	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
}

// certificate implements tls.Config.GetCertificate. One that cannot be renewed is served to its end.
func (s *served) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.pki.now()
	if s.current != nil && now.Sub(s.looked) < lookAgain {
		return s.current, nil
	}
	s.looked = now
	c, err := s.pki.serving(s.name, s.names)
	if err == nil {
		s.current = c
	} else if s.current == nil {
		return nil, err
	}
	return s.current, nil
}

// serving is the leaf for the names, issued again where it is old or does not fit.
func (p *pki) serving(name string, names []string) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ensureLeaf(name, p.ca, servingTemplate(names)); err != nil {
		return nil, err
	}
	c, err := tls.LoadX509KeyPair(p.file(name, ".crt"), p.file(name, ".key"))
	if err != nil {
		return nil, fmt.Errorf("gateway: pki: %s: %w", name, err)
	}
	return &c, nil
}

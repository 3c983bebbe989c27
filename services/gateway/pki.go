package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Names of the files in DataDir/pki, each with .crt, .key or .pub.
const (
	caName             = "ca"
	frontProxyCAName   = "front-proxy-ca"
	servingName        = "serving"
	serviceAccountName = "service-account"
	frontProxyUser     = "front-proxy-client"
	clientsDir         = "clients"
)

const (
	caYears  = 10
	leafLife = 365 * 24 * time.Hour
	// renewBefore: a certificate with less life left is issued again, at start and while running.
	renewBefore = leafLife / 3
	// backdated allows for clocks that are behind.
	backdated = 5 * time.Minute
)

// pki is the cluster's own certificate authority, its keys and its certificates, in files of mode 0600.
// Everything is made on first start; leaves are issued again when they grow old or no longer fit.
type pki struct {
	dir string
	now func() time.Time
	// revoked reports whether a public key may not be used any more; nil where none is.
	revoked func(publicKeyInfo []byte) bool
	// names go into the serving certificate.
	names []string

	mu             sync.Mutex // one writer of files
	ca, frontProxy *authority
}

// authority is a CA certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p *pki) file(name, extension string) string { return filepath.Join(p.dir, name+extension) }

// openPKI makes what is missing and loads the rest.
func openPKI(dir string, names []string, now func() time.Time) (*pki, error) {
	p := &pki{dir: dir, names: names, now: now}
	if err := os.MkdirAll(filepath.Join(dir, clientsDir), 0o700); err != nil {
		return nil, fmt.Errorf("gateway: pki: %w", err)
	}
	var err error
	if p.ca, err = p.authority(caName, "orlog"); err != nil {
		return nil, err
	}
	if p.frontProxy, err = p.authority(frontProxyCAName, "orlog-front-proxy"); err != nil {
		return nil, err
	}
	if err := p.serviceAccountKey(); err != nil {
		return nil, err
	}
	return p, p.renew()
}

// renew issues again the leaves that this process itself uses, where they are old or do not fit. Upstream
// watches the files.
func (p *pki) renew() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ensureLeaf(servingName, p.ca, servingTemplate(p.names)); err != nil {
		return err
	}
	return p.ensureLeaf(frontProxyUser, p.frontProxy, clientTemplate(frontProxyUser, nil))
}

// client returns a certificate and key, in PEM, for a user and groups. It is kept and returned again while
// it has enough life left.
func (p *pki) client(user string, groups []string) (cert, key []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if user == "" {
		return nil, nil, errors.New("gateway: pki: a client certificate needs a user")
	}
	name := filepath.Join(clientsDir, fileName(user))
	if err := p.ensureLeaf(name, p.ca, clientTemplate(user, groups)); err != nil {
		return nil, nil, err
	}
	if cert, err = os.ReadFile(p.file(name, ".crt")); err != nil {
		return nil, nil, fmt.Errorf("gateway: pki: %w", err)
	}
	if key, err = os.ReadFile(p.file(name, ".key")); err != nil {
		return nil, nil, fmt.Errorf("gateway: pki: %w", err)
	}
	return cert, key, nil
}

// bundle is the CA in PEM: what clients and pods trust.
func (p *pki) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.ca.cert.Raw})
}

func (p *pki) authority(name, commonName string) (*authority, error) {
	cert, err := readCertificate(p.file(name, ".crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return p.newAuthority(name, commonName)
	}
	if err != nil {
		return nil, err
	}
	key, err := readKey(p.file(name, ".key"))
	if err != nil {
		return nil, err
	}
	if !publicEqual(cert.PublicKey, key.Public()) {
		return nil, fmt.Errorf("gateway: pki: %s and %s do not belong together; restore both from the same backup", p.file(name, ".crt"), p.file(name, ".key"))
	}
	if p.now().After(cert.NotAfter) {
		return nil, fmt.Errorf("gateway: pki: the authority in %s expired on %s; move it away and restart: every client certificate must then be issued again", p.file(name, ".crt"), cert.NotAfter)
	}
	return &authority{cert, key}, nil
}

// newAuthority makes a CA. The key is written before the certificate, so that a crash in between is
// repaired by starting again.
func (p *pki) newAuthority(name, commonName string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("gateway: pki: %w", err)
	}
	template := authorityTemplate(commonName, p.now())
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("gateway: pki: %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("gateway: pki: %s: %w", name, err)
	}
	return &authority{cert, key}, p.write(name, key, der)
}

// ensureLeaf issues name.crt and name.key unless what is there is as good.
func (p *pki) ensureLeaf(name string, by *authority, want *x509.Certificate) error {
	if have, err := readCertificate(p.file(name, ".crt")); err == nil {
		key, err := readKey(p.file(name, ".key"))
		if err == nil && publicEqual(have.PublicKey, key.Public()) && p.serves(have, by, want) {
			return nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("gateway: pki: %w", err)
	}
	if want.SerialNumber, err = rand.Int(rand.Reader, serialLimit); err != nil {
		return fmt.Errorf("gateway: pki: %w", err)
	}
	want.NotBefore, want.NotAfter = p.now().Add(-backdated), p.now().Add(leafLife)
	if want.NotAfter.After(by.cert.NotAfter) {
		want.NotAfter = by.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, want, by.cert, key.Public(), by.key)
	if err != nil {
		return fmt.Errorf("gateway: pki: %s: %w", name, err)
	}
	return p.write(name, key, der)
}

// serves reports whether a certificate is as good as a new one made from the template.
func (p *pki) serves(have *x509.Certificate, by *authority, want *x509.Certificate) bool {
	return have.CheckSignatureFrom(by.cert) == nil && (p.revoked == nil || !p.revoked(have.RawSubjectPublicKeyInfo)) && have.NotAfter.Sub(p.now()) > renewBefore &&
		have.Subject.String() == want.Subject.String() && coversNames(have, want)
}

// serviceAccountKey makes the key that signs service-account tokens. It is RSA because OIDC clients outside
// often know nothing else.
func (p *pki) serviceAccountKey() error {
	key, err := readKey(p.file(serviceAccountName, ".key"))
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			err = writeKey(p.file(serviceAccountName, ".key"), key)
		}
	}
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("gateway: pki: %s: %w", serviceAccountName, err)
	}
	return writePEM(p.file(serviceAccountName, ".pub"), "PUBLIC KEY", der)
}

func (p *pki) write(name string, key crypto.Signer, der []byte) error {
	if err := writeKey(p.file(name, ".key"), key); err != nil {
		return err
	}
	return writePEM(p.file(name, ".crt"), "CERTIFICATE", der)
}

package request

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// Signers of requests whose approval lets an Ed25519 key into the log.
const (
	// NodeSigner is for agents; the request's common name is system:node:NAME.
	NodeSigner = "orlog.io/log-node"
	// OrlogdSigner is for what orlogd made by itself at its start: the requests are a record only.
	OrlogdSigner = "orlog.io/orlogd"
	// ReaderSigner is for integrators, who may read the log; the request's common name is any name.
	ReaderSigner = "orlog.io/log-reader"
)

// Conditions of a request besides Kubernetes' own.
const (
	// Revoked: the key in the request is void.
	Revoked certificatesv1.RequestConditionType = "Revoked"
	// InForce says whether the log's server lets the key in.
	InForce certificatesv1.RequestConditionType = "InForce"
)

// NodePrefix begins the user name of a node.
const NodePrefix = "system:node:"

// Resource and Group are of the objects that the ledger is made of.
const (
	Group    = "certificates.k8s.io"
	Resource = "certificatesigningrequests"
)

// KeyID is the SHA-256 of a public key in PKIX form: of a certificate's RawSubjectPublicKeyInfo.
type KeyID [sha256.Size]byte

// IDOf is the ID of a key in PKIX form.
func IDOf(publicKeyInfo []byte) KeyID { return sha256.Sum256(publicKeyInfo) }

// Entry is one request, as the ledger knows it.
type Entry struct {
	// Request is the object's name, Signer whom it is addressed to.
	Request, Signer string
	// Name is a node's or an integrator's, or a user's.
	Name string
	ID   KeyID
	// Key is what the log's server knows the client by; nil for other signers.
	Key ed25519.PublicKey
	// Approved, and neither denied nor failed; Revoked by condition; InForce as last reported.
	Approved, Revoked, InForce bool
	// ApprovedFor is the machine-readable reason of the approval.
	ApprovedFor string
	// Refusal is why a request of the log's is none, "" where it is fine.
	Refusal string
}

// ForLog reports whether it is addressed to a signer of the log's.
func (e Entry) ForLog() bool { return e.Signer == NodeSigner || e.Signer == ReaderSigner }

// Read makes an entry of a CertificateSigningRequest's JSON.
func Read(object []byte) (Entry, error) {
	var csr certificatesv1.CertificateSigningRequest
	if err := json.Unmarshal(object, &csr); err != nil {
		return Entry{}, fmt.Errorf("certificate signing request: %w", err)
	}
	return Of(&csr)
}

// Of makes an entry of a request. An error says what is wrong with the certificate request in it.
func Of(csr *certificatesv1.CertificateSigningRequest) (Entry, error) {
	e := Entry{Request: csr.Name, Signer: csr.Spec.SignerName}
	for _, c := range csr.Status.Conditions {
		is := c.Status == corev1.ConditionTrue || c.Status == ""
		switch c.Type {
		case certificatesv1.CertificateApproved:
			e.Approved, e.ApprovedFor = is, c.Reason
		case Revoked:
			e.Revoked = is
		case InForce:
			e.InForce = is
		}
	}
	for _, c := range csr.Status.Conditions {
		if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			e.Approved = false
		}
	}
	request, err := parse(csr.Spec.Request)
	if err != nil {
		return e, fmt.Errorf("request %s: %w", csr.Name, err)
	}
	e.Name, e.ID = request.Subject.CommonName, IDOf(request.RawSubjectPublicKeyInfo)
	if e.ForLog() {
		e.Refusal = e.readKey(request)
	}
	return e, nil
}

func parse(request []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("spec.request holds no CERTIFICATE REQUEST in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("spec.request: %w", err)
	}
	return r, nil
}

// readKey takes name and key for the log's server, or says why it cannot.
func (e *Entry) readKey(r *x509.CertificateRequest) (refusal string) {
	key, ok := r.PublicKey.(ed25519.PublicKey)
	if !ok {
		return fmt.Sprintf("the log takes Ed25519 keys only, not %v", r.PublicKeyAlgorithm)
	}
	if e.Signer == NodeSigner {
		if e.Name, ok = strings.CutPrefix(e.Name, NodePrefix); !ok {
			return fmt.Sprintf("the common name of a node's request is %sNAME, not %q", NodePrefix, e.Name)
		}
	}
	if e.Name == "" {
		return "the request names nobody: its common name is empty"
	}
	e.Key = key
	return ""
}

// New makes the object that asks a signer of the log's to let a key in: name is the node's or the
// integrator's. The name of the object tells the key, so the same key asks once.
func New(signer, name string, key ed25519.PrivateKey) (*certificatesv1.CertificateSigningRequest, error) {
	subject := pkix.Name{CommonName: name}
	kind := "integrator"
	if signer == NodeSigner {
		subject, kind = pkix.Name{CommonName: NodePrefix + name, Organization: []string{"system:nodes"}}, "node"
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, fmt.Errorf("request for %s %s: %w", kind, name, err)
	}
	pkixKey, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("request for %s %s: %w", kind, name, err)
	}
	csr := &certificatesv1.CertificateSigningRequest{}
	csr.Name = ObjectName("log-"+kind, name, IDOf(pkixKey))
	csr.Spec.SignerName = signer
	csr.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
	csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return csr, nil
}

// ForRecord makes the object that records a certificate that was issued without asking.
func ForRecord(subject pkix.Name, key crypto.Signer, certificate []byte) (*certificatesv1.CertificateSigningRequest, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, fmt.Errorf("record of %s: %w", subject.CommonName, err)
	}
	info, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("record of %s: %w", subject.CommonName, err)
	}
	csr := &certificatesv1.CertificateSigningRequest{}
	csr.Name = ObjectName("orlogd", subject.CommonName, IDOf(info))
	csr.Spec.SignerName = OrlogdSigner
	csr.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	csr.Status.Certificate = certificate
	return csr, nil
}

// ObjectName is a request's name: what it is for, for whom, and the beginning of the key's ID.
func ObjectName(kind, name string, id KeyID) string {
	var readable strings.Builder
	for _, r := range strings.ToLower(name) {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' {
			readable.WriteRune(r)
		} else {
			readable.WriteByte('-')
		}
	}
	text := strings.Trim(readable.String(), "-")
	return strings.Trim(fmt.Sprintf("%s-%.60s", kind, text), "-") + fmt.Sprintf("-%x", id[:5])
}

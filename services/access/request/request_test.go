package request

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNewIsRead(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for signer, name := range map[string]string{NodeSigner: "n1.example", ReaderSigner: "Billing_2"} {
		csr, err := New(signer, name, private)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Of(csr)
		if err != nil || e.Name != name || !e.Key.Equal(public) || e.Refusal != "" || e.Request != csr.Name || !e.ForLog() {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if wrong := validation.IsDNS1123Subdomain(csr.Name); wrong != nil {
			t.Errorf("%s is no object's name: %v", csr.Name, wrong)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := New(ReaderSigner, "x", ed)
	if err != nil {
		t.Fatal(err)
	}
	for want, make := range map[string]func() ([]byte, error){
		"Ed25519 keys only": func() ([]byte, error) {
			return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, ec)
		},
		"common name is empty": func() ([]byte, error) {
			return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ed)
		},
	} {
		der, err := make()
		if err != nil {
			t.Fatal(err)
		}
		csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if e, err := Of(csr); err != nil || !strings.Contains(e.Refusal, want) {
			t.Errorf("want %q, got %q, %v", want, e.Refusal, err)
		}
	}
	// A node's name needs the prefix that Kubernetes knows nodes by.
	if csr, err = New(ReaderSigner, "worker", ed); err != nil {
		t.Fatal(err)
	}
	csr.Spec.SignerName = NodeSigner
	if e, err := Of(csr); err != nil || !strings.Contains(e.Refusal, "system:node:NAME") {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, bad := range []string{"", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"} {
		csr.Spec.Request = []byte(bad)
		if _, err := Of(csr); err == nil || !strings.Contains(err.Error(), "spec.request") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestObjectNames(t *testing.T) {
	for name, want := range map[string]string{"alice": "user-alice-0102030405", "Alice@Example.com": "user-alice-example-com-0102030405",
		"system:serviceaccount:a:b": "user-system-serviceaccount-a-b-0102030405", "": "user-0102030405", "äö": "user-0102030405", strings.Repeat("a", 300): "user-" + strings.Repeat("a", 60) + "-0102030405"} {
		got := ObjectName("user", name, KeyID{1, 2, 3, 4, 5, 6})
		if got != want || validation.IsDNS1123Subdomain(got) != nil {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

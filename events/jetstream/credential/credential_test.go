package credential

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestFileHoldsKeyAndAuthority(t *testing.T) {
	ca := authority(t)
	c, err := New(ca)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(c.Bytes())
	if err != nil || !bytes.Equal(again.Bytes(), c.Bytes()) || !bytes.Equal(again.Authority, ca) {
		t.Errorf("got %q, %v", again.Bytes(), err)
	}
	key, err := c.Key()
	if err != nil {
		t.Fatal(err)
	}
	public, err := c.Public()
	if err != nil {
		t.Fatal(err)
	}
	if of, err := PublicOf(key.Public().(ed25519.PublicKey)); err != nil || of != public || !strings.HasPrefix(of, "U") {
		t.Errorf("the key is %s, %v; the credential says %s", of, err, public)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, content := range map[string][]byte{"nothing": nil, "no seed": []byte("hello\n"), "an authority alone": authority(t)} {
		if _, err := Parse(content); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMakeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.nats")
	first, err := Make(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Make(path); err != nil || !bytes.Equal(again.Bytes(), first.Bytes()) {
		t.Errorf("the second time: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("files left: %v, %v", files, err)
	}
	if err := os.WriteFile(path, []byte("no seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("with a broken file: %v", err)
	}
}

func TestWriteMendsTheMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "a.nats")
	if err := Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

package credential

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Credential is what a client of the log presents, and whom it trusts. The zero value is none.
type Credential struct {
	seed []byte // "SU...": the encoded seed of a user's nkey
	// Authority is the certificate authority of the log's server, PEM; empty for the system's authorities.
	Authority []byte
}

// New makes a credential with a fresh key.
func New(authority []byte) (Credential, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return Credential{}, fmt.Errorf("credentials: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return Credential{}, fmt.Errorf("credentials: %w", err)
	}
	return Credential{seed: seed, Authority: authority}, nil
}

// Parse reads a file's content: a line that holds the seed, and the PEM blocks of the authority, if any.
func Parse(content []byte) (Credential, error) {
	pair, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return Credential{}, fmt.Errorf("no seed of a user's nkey (a line that begins with SU): %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return Credential{}, err
	}
	return Credential{seed: seed, Authority: Certificates(content)}, nil
}

// Certificates are the PEM certificates in a file, without what else it holds; nil where there are none.
func Certificates(content []byte) []byte {
	var out []byte
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return out
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
}

// Bytes is the file's content, as Parse reads it.
func (c Credential) Bytes() []byte {
	if len(c.Authority) == 0 {
		return c.seed
	}
	return append(append(bytes.Clone(c.seed), '\n'), c.Authority...)
}

// Public is the public key, as the server knows it ("U...").
func (c Credential) Public() (string, error) {
	pair, err := nkeys.FromSeed(c.seed)
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	return pair.PublicKey()
}

// Key is the private key: what the nkey is made of is Ed25519, so a certificate request can be signed with it.
func (c Credential) Key() (ed25519.PrivateKey, error) {
	_, raw, err := nkeys.DecodeSeed(c.seed)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return ed25519.NewKeyFromSeed(raw), nil
}

// PublicOf spells an Ed25519 key as the server knows it.
func PublicOf(key ed25519.PublicKey) (string, error) {
	encoded, err := nkeys.Encode(nkeys.PrefixByteUser, key)
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	return string(encoded), nil
}

// Read reads a file.
func Read(path string) (Credential, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Credential{}, fmt.Errorf("credentials: %w", err)
	}
	c, err := Parse(content)
	if err != nil {
		return Credential{}, fmt.Errorf("credentials %s: %w: delete the file to get new ones", path, err)
	}
	return c, nil
}

// Make reads a file, or writes one with a fresh key where there is none.
func Make(path string) (Credential, error) {
	c, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if c, err = New(nil); err != nil {
		return Credential{}, err
	}
	return c, Write(path, c.Bytes())
}

// Write makes or replaces a file, whole or not at all, readable by its owner only. A file that holds the same
// already is left alone.
func Write(path string, content []byte) error {
	if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, content) {
		return os.Chmod(path, 0o600)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)) // of mode 0600
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("credentials: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

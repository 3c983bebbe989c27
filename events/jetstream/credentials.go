package jetstream

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// MakeCredentials returns the public key of the credentials in a file, which it writes where there are none
// (mode 0600). The file holds one line, the seed of an nkey, as every NATS client reads it. To replace
// credentials, delete the file and let the server start with the new key.
func MakeCredentials(path string) (public string, err error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed, err = writeSeed(path)
	}
	if err != nil {
		return "", fmt.Errorf("credentials: %w", err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		return "", fmt.Errorf("credentials %s: %w: delete the file to get new ones", path, err)
	}
	if public, err = pair.PublicKey(); err != nil {
		return "", fmt.Errorf("credentials %s: %w", path, err)
	}
	return public, nil
}

// writeSeed makes the file, whole or not at all.
func writeSeed(path string) (seed []byte, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)) // of mode 0600
	if err != nil {
		return nil, err
	}
	_, err = f.Write(seed)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return seed, nil
}

// credentials reads Options.Credentials: an nkey's seed, or what an operator's cluster gives, a user's JWT
// and seed.
func credentials(path string) (nats.Option, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if bytes.Contains(b, []byte("BEGIN NATS USER JWT")) {
		return nats.UserCredentials(path), nil
	}
	pair, err := nkeys.ParseDecoratedUserNKey(b)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: neither the seed of an nkey nor a .creds file: %w", path, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w", path, err)
	}
	return nats.Nkey(public, pair.Sign), nil // kept: reconnecting does not need the file
}

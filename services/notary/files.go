package notary

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	keyFile        = "key"
	publicKeyFile  = "key.pub"
	checkpointFile = "checkpoint"
	hashesFile     = "hashes"
)

// replace puts a file in place as a whole and durably: whoever reads it, even after a crash, finds the old
// content or the new.
func replace(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what a crash left of replace.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.new-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// readIfAny reads a file; nil where there is none.
func readIfAny(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// loadKey reads the notary's key, or makes one where the folder holds no checkpoint yet: a checkpoint
// without its key is a loss that a person must know of.
func loadKey(dir, origin string, fresh bool) (note.Signer, string, error) {
	path := filepath.Join(dir, keyFile)
	private, err := readIfAny(path)
	if err != nil {
		return nil, "", err
	}
	if private == nil {
		if !fresh {
			return nil, "", fmt.Errorf("%s is missing, but there is a checkpoint: restore the key, or move the folder away to begin a new chain of evidence", path)
		}
		if private, err = makeKey(dir, origin); err != nil {
			return nil, "", fmt.Errorf("making a key: %w", err)
		}
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(private)))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if signer.Name() != origin {
		return nil, "", fmt.Errorf("%s signs for log %q, this one is %q: restore the folder of this log", path, signer.Name(), origin)
	}
	public, err := os.ReadFile(filepath.Join(dir, publicKeyFile))
	if err != nil {
		return nil, "", fmt.Errorf("the public key: %w", err)
	}
	return signer, strings.TrimSpace(string(public)), nil
}

// makeKey writes the public half first, so that a key in place always has its public half.
func makeKey(dir, origin string) ([]byte, error) {
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	err = replace(filepath.Join(dir, publicKeyFile), []byte(public+"\n"), 0o644)
	if err == nil {
		err = replace(filepath.Join(dir, keyFile), []byte(private+"\n"), 0o600)
	}
	return []byte(private), err
}

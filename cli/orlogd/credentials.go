package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// integrator names the one reader that orlogd makes credentials for.
const integrator = "integrator"

// nodeFilePrefix and the node's name as in a subject make the name of its file.
const nodeFilePrefix = "node-"

// grantAccess makes the credentials that the NATS inside orlogd asks for, where they do not exist yet, in
// data-dir/nats, and puts those of this machine's agent and of integrators where they are looked for. It
// returns who may do what, and the file with orlogd's own.
func grantAccess(o options) (_ *jetstream.Access, own string, err error) {
	dir := filepath.Join(o.dataDir, "nats")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("data-dir: %w", err)
	}
	own = filepath.Join(dir, "services.nats")
	node := filepath.Join(dir, nodeFilePrefix+events.NodeToken(o.nodeName)+".nats")
	reader := filepath.Join(dir, integrator+".nats")
	access := &jetstream.Access{Readers: map[string]string{}}
	if access.Services, err = jetstream.MakeCredentials(own); err != nil {
		return nil, "", err
	}
	if _, err = jetstream.MakeCredentials(node); err != nil {
		return nil, "", err
	}
	if access.Nodes, err = nodeKeys(dir); err != nil {
		return nil, "", err
	}
	if access.Readers[integrator], err = jetstream.MakeCredentials(reader); err != nil {
		return nil, "", err
	}
	if err := handOut(node, o.nodeCredentials); err != nil {
		return nil, "", fmt.Errorf("node-credentials: %w", err)
	}
	if err := handOut(reader, o.integratorCredentials); err != nil {
		return nil, "", fmt.Errorf("integrator-credentials: %w", err)
	}
	return access, own, nil
}

// nodeKeys are the keys of all nodes that there are credentials for: other names that this machine's node had
// keep theirs until the file is deleted.
func nodeKeys(dir string) (map[string]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	keys := map[string]string{}
	for _, f := range files {
		token, isNode := strings.CutPrefix(strings.TrimSuffix(f.Name(), ".nats"), nodeFilePrefix)
		if !isNode || !strings.HasSuffix(f.Name(), ".nats") {
			continue
		}
		node, err := url.PathUnescape(token)
		if err != nil {
			return nil, fmt.Errorf("credentials %s: the name of the file names no node: %w", filepath.Join(dir, f.Name()), err)
		}
		if keys[node], err = jetstream.MakeCredentials(filepath.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// handOut copies a file of credentials, whole or not at all.
func handOut(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	is, err := os.ReadFile(to)
	if err == nil && bytes.Equal(is, content) {
		return os.Chmod(to, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)) // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/services/access/request"
)

// integrator names the one reader that orlogd makes credentials for.
const integrator = "integrator"

// nodeFilePrefix and the node's name as in a subject make the name of its file.
const nodeFilePrefix = "node-"

// holder is somebody that orlogd itself made credentials for.
type holder struct {
	signer, name string // as the ledger has it
	credential.Credential
}

// credentials are those that orlogd makes for the NATS inside it.
type credentials struct {
	file     string // with orlogd's own
	services string // its public key
	holders  []holder
}

// makeCredentials makes the credentials that the NATS inside orlogd asks for, where they do not exist yet, in
// data-dir/nats, and puts those of this machine's agent and of integrators where they are looked for, with the
// authority (PEM) that the server's certificate is checked against.
func makeCredentials(o options, authority []byte) (*credentials, error) {
	dir := filepath.Join(o.dataDir, "nats")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	c := &credentials{file: filepath.Join(dir, "services.nats")}
	own, err := credential.Make(c.file)
	if err != nil {
		return nil, err
	}
	if c.services, err = own.Public(); err != nil {
		return nil, err
	}
	node, err := credential.Make(filepath.Join(dir, nodeFilePrefix+events.NodeToken(o.nodeName)+".nats"))
	if err != nil {
		return nil, err
	}
	reader, err := credential.Make(filepath.Join(dir, integrator+".nats"))
	if err != nil {
		return nil, err
	}
	if c.holders, err = nodeHolders(dir); err != nil {
		return nil, err
	}
	c.holders = append(c.holders, holder{request.ReaderSigner, integrator, reader})
	node.Authority, reader.Authority = authority, authority
	if err := credential.Write(o.nodeCredentials, node.Bytes()); err != nil {
		return nil, fmt.Errorf("node-credentials: %w", err)
	}
	if err := credential.Write(o.integratorCredentials, reader.Bytes()); err != nil {
		return nil, fmt.Errorf("integrator-credentials: %w", err)
	}
	return c, nil
}

// nodeHolders are all nodes that orlogd made credentials for: other names that this machine's node had keep
// theirs until they are revoked or the file is deleted.
func nodeHolders(dir string) ([]holder, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	var out []holder
	for _, f := range files {
		token, isNode := strings.CutPrefix(strings.TrimSuffix(f.Name(), ".nats"), nodeFilePrefix)
		if !isNode || !strings.HasSuffix(f.Name(), ".nats") {
			continue
		}
		node, err := url.PathUnescape(token)
		if err != nil {
			return nil, fmt.Errorf("credentials %s: the name of the file names no node: %w", filepath.Join(dir, f.Name()), err)
		}
		c, err := credential.Read(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, holder{request.NodeSigner, node, c})
	}
	return out, nil
}

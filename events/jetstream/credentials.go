package jetstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/orlog-io/orlog/events/jetstream/credential"
)

// credentials reads Options.Credentials: an nkey's seed, or what an operator's cluster gives, a user's JWT
// and seed; and, in either, the certificates of the server's authority, nil where there are none.
func credentials(path string) (_ nats.Option, authority []byte, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials: %w", err)
	}
	authority = credential.Certificates(b)
	if bytes.Contains(b, []byte("BEGIN NATS USER JWT")) {
		return nats.UserCredentials(path), authority, nil
	}
	pair, err := nkeys.ParseDecoratedUserNKey(b)
	if err != nil {
		return nil, nil, fmt.Errorf("credentials %s: neither the seed of an nkey nor a .creds file: %w", path, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, nil, fmt.Errorf("credentials %s: %w", path, err)
	}
	return nats.Nkey(public, pair.Sign), authority, nil // kept: reconnecting does not need the file
}

// authenticate are the options of a connection that say who connects and whom it trusts.
func (o Options) authenticate() ([]nats.Option, error) {
	var out []nats.Option
	if o.Token != "" {
		out = append(out, nats.Token(o.Token))
	}
	var authority []byte
	if o.Credentials != "" {
		own, known, err := credentials(o.Credentials)
		if err != nil {
			return nil, err
		}
		out, authority = append(out, own), known
	}
	if o.Authority != "" {
		b, err := os.ReadFile(o.Authority)
		if err != nil {
			return nil, fmt.Errorf("certificate authority of the log: %w", err)
		}
		if authority = credential.Certificates(b); authority == nil {
			return nil, fmt.Errorf("certificate authority of the log: %s holds no certificate in PEM", o.Authority)
		}
	}
	switch {
	case o.Server != nil: // no network in between
		out = append(out, nats.InProcessServer(o.Server))
	case o.TLS != nil:
		out = append(out, nats.Secure(o.TLS))
	case authority != nil:
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authority) {
			return nil, errors.New("certificate authority of the log: its certificate cannot be read")
		}
		out = append(out, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	return out, nil
}

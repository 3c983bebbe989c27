package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/orlog-io/orlog/events/jetstream/credential"
)

func TestMakeCredentials(t *testing.T) {
	dir := t.TempDir()
	const authority = "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n"
	o := options{dataDir: filepath.Join(dir, "data"), nodeName: "n1.example", nodeCredentials: filepath.Join(dir, "etc", "node.nats"), integratorCredentials: filepath.Join(dir, "etc", "integrator.nats")}
	first, err := makeCredentials(o, []byte(authority))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(first); first.services == "" || !slices.Equal(got, []string{"n1.example", integrator}) {
		t.Errorf("made %s, %v", first.services, got)
	}
	kept := filepath.Join(dir, "data", "nats")
	for copied, from := range map[string]string{o.nodeCredentials: "node-n1%2Eexample.nats", o.integratorCredentials: "integrator.nats"} {
		handedOut(t, copied, filepath.Join(kept, from), authority)
	}
	for _, path := range []string{first.file, o.nodeCredentials, o.integratorCredentials} {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	// Another name for the node: the old one's agent, which may still run, is known; the new one gets its own.
	o.nodeName = "n2"
	second, err := makeCredentials(o, []byte(authority))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(second); second.services != first.services || !slices.Equal(got, []string{"n1.example", "n2", integrator}) {
		t.Errorf("made %v", got)
	}
	handedOut(t, o.nodeCredentials, filepath.Join(kept, "node-n2.nats"), authority)

	// A deleted file is not made again for a name that this machine has no more.
	if err := os.Remove(filepath.Join(kept, "node-n1%2Eexample.nats")); err != nil {
		t.Fatal(err)
	}
	if third, err := makeCredentials(o, []byte(authority)); err != nil || !slices.Equal(names(third), []string{"n2", integrator}) {
		t.Errorf("made %v, %v", names(third), err)
	}
}

func names(c *credentials) (out []string) {
	for _, h := range c.holders {
		out = append(out, h.name)
	}
	return out
}

// handedOut checks that a file holds another's key, and the authority.
func handedOut(t *testing.T, copied, from, authority string) {
	t.Helper()
	a, err := credential.Read(copied)
	if err != nil {
		t.Fatal(err)
	}
	b, err := credential.Read(from)
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Public()
	if err != nil {
		t.Fatal(err)
	}
	if y, err := b.Public(); err != nil || x != y || string(a.Authority) != authority || strings.Contains(string(b.Bytes()), "CERTIFICATE") {
		t.Errorf("%s holds %s, %s; %s holds %s, %v", copied, x, a.Authority, from, y, err)
	}
}

func TestNATSNames(t *testing.T) {
	for host, want := range map[string]string{"0.0.0.0": "tls://192.0.2.7:4222", "127.0.0.1": "tls://127.0.0.1:4222", "": "tls://192.0.2.7:4222", "log.example": "tls://log.example:4222"} {
		if got := natsURL(host, "192.0.2.7", 4222); got != want {
			t.Errorf("host %q: %s, want %s", host, got, want)
		}
		all := options{natsHost: host}.natsNames("192.0.2.7")
		if !slices.Contains(all, "192.0.2.7") || !slices.Contains(all, "127.0.0.1") || slices.Contains(all, "0.0.0.0") || host == "log.example" && !slices.Contains(all, host) {
			t.Errorf("host %q: names %v", host, all)
		}
	}
}

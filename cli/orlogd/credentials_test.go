package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestGrantAccess(t *testing.T) {
	dir := t.TempDir()
	o := options{dataDir: filepath.Join(dir, "data"), nodeName: "n1.example", nodeCredentials: filepath.Join(dir, "etc", "node.nats"), integratorCredentials: filepath.Join(dir, "etc", "integrator.nats")}
	first, own, err := grantAccess(o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Services == "" || first.Nodes["n1.example"] == "" || first.Readers[integrator] == "" || len(first.Nodes) != 1 {
		t.Errorf("granted %+v", first)
	}
	kept := filepath.Join(dir, "data", "nats")
	for copied, from := range map[string]string{o.nodeCredentials: "node-n1%2Eexample.nats", o.integratorCredentials: "integrator.nats"} {
		same(t, copied, filepath.Join(kept, from))
	}
	for _, path := range []string{own, o.nodeCredentials, o.integratorCredentials} {
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	// Another name for the node: the old one's agent, which may still run, is known; the new one gets its own.
	o.nodeName = "n2"
	second, _, err := grantAccess(o)
	if err != nil {
		t.Fatal(err)
	}
	if second.Services != first.Services || second.Readers[integrator] != first.Readers[integrator] || second.Nodes["n1.example"] != first.Nodes["n1.example"] {
		t.Errorf("granted %+v, then %+v", first, second)
	}
	if second.Nodes["n2"] == "" || second.Nodes["n2"] == second.Nodes["n1.example"] {
		t.Errorf("nodes: %v", second.Nodes)
	}
	same(t, o.nodeCredentials, filepath.Join(kept, "node-n2.nats"))

	// A deleted file is a revoked key.
	if err := os.Remove(filepath.Join(kept, "node-n1%2Eexample.nats")); err != nil {
		t.Fatal(err)
	}
	if third, _, err := grantAccess(o); err != nil || len(third.Nodes) != 1 {
		t.Errorf("granted %+v, %v", third, err)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

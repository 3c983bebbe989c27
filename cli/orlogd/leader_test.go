package main

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What runs a second time finds its metrics' names free.
func TestScopeEnds(t *testing.T) {
	registry := prometheus.NewRegistry()
	run := func(s prometheus.Registerer) error {
		return prometheus.WrapRegistererWith(prometheus.Labels{"service": "s"}, s).Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "c", Help: "h"}))
	}
	for range 2 {
		s := &scope{Registerer: registry}
		if err := run(s); err != nil {
			t.Fatal(err)
		}
		if err := run(s); !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			t.Errorf("registered twice: %v", err)
		}
		if all, err := registry.Gather(); err != nil || len(all) != 1 {
			t.Errorf("gathered %v, %v", all, err)
		}
		s.close()
		if all, err := registry.Gather(); err != nil || len(all) != 0 {
			t.Errorf("at the end there is still %v (%v)", all, err)
		}
	}
}

// The owner of a data folder is the same after a restart, and no other's.
func TestIdentityStays(t *testing.T) {
	dir := t.TempDir()
	first, err := identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := identity(dir); err != nil || again != first {
		t.Errorf("first %s, then %s, %v", first, again, err)
	}
	if other, err := identity(t.TempDir()); err != nil || other == first {
		t.Errorf("another folder's is %s too, %v", other, err)
	}
	if _, err := identity(dir + "/missing"); err == nil {
		t.Error("a folder that is not there has an owner")
	}
}

func TestOnlyExternalLogsHaveCandidates(t *testing.T) {
	if c, err := newCandidate(options{dataDir: t.TempDir()}, nil, nil); c != nil || err != nil {
		t.Errorf("with the log inside: %v, %v", c, err)
	}
}

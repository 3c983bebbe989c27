package main

import (
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access"
	"github.com/orlog-io/orlog/services/access/request"
)

// newDoorman is a doorman before a closed server, over a projection that a test writes requests to.
func newDoorman(t *testing.T) (*doorman, func(*certificatesv1.CertificateSigningRequest)) {
	t.Helper()
	store, err := projections.Open(t.TempDir(), projections.Options{History: true, InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	own, err := credential.Make(filepath.Join(t.TempDir(), "services.nats"))
	if err != nil {
		t.Fatal(err)
	}
	made := &credentials{}
	if made.services, err = own.Public(); err != nil {
		t.Fatal(err)
	}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1, Closed: true, Access: &jetstream.Access{Services: made.services}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	d := &doorman{server: server, ledger: access.New(store, slog.New(slog.DiscardHandler)), made: made, logger: slog.New(slog.DiscardHandler)}
	var at events.Sequence
	return d, func(csr *certificatesv1.CertificateSigningRequest) {
		t.Helper()
		object, err := json.Marshal(csr)
		if err != nil {
			t.Fatal(err)
		}
		at++
		e := events.Event{Sequence: at, ID: at.String(), Type: "io.orlog.certificatesigningrequest.created", Source: "test", Actor: "ada", UID: csr.Name, Time: time.Unix(1, 0),
			Object: object, Subject: events.Subject{Class: events.Desired, Key: events.Key{Group: request.Group, Resource: request.Resource, Name: csr.Name}}}
		if err := store.Apply([]events.Event{e}); err != nil {
			t.Fatal(err)
		}
		if err := d.ledger.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.admit(); err != nil {
			t.Fatal(err)
		}
	}
}

func approvedRequest(t *testing.T, signer, name string, key ed25519.PrivateKey) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	csr, err := request.New(signer, name, key)
	if err != nil {
		t.Fatal(err)
	}
	csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
	return csr
}

// TestDoormanAdmits what is approved, each key once, and nothing that the server could not take.
func TestDoormanAdmits(t *testing.T) {
	d, write := newDoorman(t)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	public, err := credential.PublicOf(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	pending := approvedRequest(t, request.ReaderSigner, "billing", key)
	pending.Status.Conditions = nil
	write(pending)
	if len(d.current.Readers) != 0 {
		t.Errorf("let in without approval: %+v", d.current)
	}
	write(approvedRequest(t, request.ReaderSigner, "billing", key))
	if got := d.current.Readers["billing"]; !slices.Equal(got, []string{public}) {
		t.Errorf("readers: %v", d.current.Readers)
	}
	before := d.current
	write(approvedRequest(t, request.ReaderSigner, "z-same-key", key)) // the same key for another name
	write(approvedRequest(t, request.ReaderSigner, "no $name", key))
	if d.current != before {
		t.Errorf("access was changed: %+v", d.current)
	}
	revoked := approvedRequest(t, request.ReaderSigner, "billing", key)
	revoked.Status.Conditions = append(revoked.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: request.Revoked, Status: corev1.ConditionTrue})
	write(revoked)
	if len(d.current.Readers) != 0 {
		t.Errorf("let in after it was revoked: %+v", d.current)
	}
}

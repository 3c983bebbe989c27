package access

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access/request"
)

// book is a ledger on a projection that a test writes to.
type book struct {
	*Ledger
	t     *testing.T
	store *projections.Store
	at    events.Sequence
}

func newBook(t *testing.T) *book {
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
	return &book{Ledger: New(store, slog.New(slog.DiscardHandler)), t: t, store: store}
}

// write appends an event about a request and has the ledger read it.
func (b *book) write(verb events.Verb, csr *certificatesv1.CertificateSigningRequest) {
	b.t.Helper()
	object, err := json.Marshal(csr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.at++
	e := events.Event{Sequence: b.at, ID: string(rune('a' + b.at)), Type: events.TypePrefix + "certificatesigningrequest." + string(verb), Source: "test", Actor: "ada", UID: "uid-" + csr.Name,
		Time: time.Unix(1, 0), Object: object, Subject: events.Subject{Class: events.Desired, Key: events.Key{Group: request.Group, Resource: request.Resource, Name: csr.Name}}}
	if err := b.store.Apply([]events.Event{e}); err != nil {
		b.t.Fatal(err)
	}
	if err := b.CatchUp(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func with(csr *certificatesv1.CertificateSigningRequest, conditions ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	csr = csr.DeepCopy()
	csr.Status.Conditions = nil
	for _, c := range conditions {
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: corev1.ConditionTrue})
	}
	return csr
}

// ask makes a request with a fresh key, and gives the key in PKIX form.
func ask(t *testing.T, signer, name string) (*certificatesv1.CertificateSigningRequest, []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := request.New(signer, name, private)
	if err != nil {
		t.Fatal(err)
	}
	info, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return csr, info
}

func TestLedger(t *testing.T) {
	b := newBook(t)
	reader, key := ask(t, request.ReaderSigner, "billing")
	node, _ := ask(t, request.NodeSigner, "worker-2")
	only := func(want request.Entry) {
		t.Helper()
		for _, e := range b.ForLog() {
			if e.Name == want.Name {
				if e.Approved != want.Approved || e.Revoked != want.Revoked || e.InForce != want.InForce || e.Signer != want.Signer || e.Key == nil || e.Refusal != "" {
					t.Errorf("got %+v, want %+v", e, want)
				}
				return
			}
		}
		t.Errorf("%s is not in the ledger", want.Name)
	}
	changed := b.Changed()
	b.write(events.Created, reader)
	select {
	case <-changed:
	default:
		t.Error("a change was not told")
	}
	only(request.Entry{Name: "billing", Signer: request.ReaderSigner})
	b.write(events.Updated, with(reader, certificatesv1.CertificateApproved))
	b.write(events.Created, with(node, certificatesv1.CertificateApproved, request.InForce))
	only(request.Entry{Name: "billing", Signer: request.ReaderSigner, Approved: true})
	only(request.Entry{Name: "worker-2", Signer: request.NodeSigner, Approved: true, InForce: true})
	if b.Revoked(key) {
		t.Error("a key is revoked that never was")
	}
	b.write(events.Updated, with(node, certificatesv1.CertificateApproved, certificatesv1.CertificateFailed))
	only(request.Entry{Name: "worker-2", Signer: request.NodeSigner})

	b.write(events.Updated, with(reader, certificatesv1.CertificateApproved, request.Revoked))
	only(request.Entry{Name: "billing", Signer: request.ReaderSigner, Approved: true, Revoked: true})
	// Taken back; deleted; asked for anew: the key stays revoked, also for who reads the log anew.
	b.write(events.Updated, with(reader, certificatesv1.CertificateApproved))
	only(request.Entry{Name: "billing", Signer: request.ReaderSigner, Approved: true, Revoked: true})
	b.write(events.Deleted, with(reader, certificatesv1.CertificateApproved))
	if entries := b.ForLog(); len(entries) != 1 {
		t.Errorf("after the deletion: %+v", entries)
	}
	again := reader.DeepCopy()
	again.Name = "again"
	b.write(events.Created, with(again, certificatesv1.CertificateApproved))
	only(request.Entry{Name: "billing", Signer: request.ReaderSigner, Approved: true, Revoked: true})
	fresh := New(b.store, b.logger)
	if err := fresh.CatchUp(t.Context()); err != nil || !fresh.Revoked(key) || len(fresh.ForLog()) != 2 {
		t.Errorf("read anew: %v, %v, %+v", err, fresh.Revoked(key), fresh.ForLog())
	}
}

func TestLedgerRunEndsWithItsContext(t *testing.T) {
	b := newBook(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	csr, _ := ask(t, request.ReaderSigner, "a")
	changed := b.Changed()
	b.write(events.Created, csr)
	<-changed
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLedgerSurvivesNonsense(t *testing.T) {
	b := newBook(t)
	bad := &certificatesv1.CertificateSigningRequest{}
	bad.Name, bad.Spec.SignerName, bad.Spec.Request = "bad", request.ReaderSigner, []byte("none")
	b.write(events.Created, with(bad, certificatesv1.CertificateApproved))
	if entries := b.ForLog(); len(entries) != 0 {
		t.Errorf("nonsense was taken: %+v", entries)
	}
}

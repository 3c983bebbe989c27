package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/services/access"
	"github.com/orlog-io/orlog/services/access/request"
)

// doorman lets clients into the log's server as the ledger has it, and says so on their requests. Those that
// orlogd itself made credentials for come in without asking, unless they are revoked; their requests are made
// for them, so that they can be seen and revoked like all others.
type doorman struct {
	server *jetstream.Server
	ledger *access.Ledger
	made   *credentials
	logger *slog.Logger

	current *jetstream.Access // as last set
}

// admit sets the server's access. Whoever is not in it any more is cut off.
func (d *doorman) admit() error {
	a := &jetstream.Access{Services: d.made.services, Nodes: map[string][]string{}, Readers: map[string][]string{}}
	for _, h := range d.made.holders {
		key, err := h.Key()
		if err != nil {
			return err
		}
		info, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return fmt.Errorf("credentials of %s: %w", h.name, err)
		}
		if d.ledger.Revoked(info) {
			continue
		}
		if err := let(a, h.signer, h.name, key.Public().(ed25519.PublicKey)); err != nil {
			return err
		}
	}
	known := map[string]bool{} // the server takes a key once: the first request with it counts
	for _, e := range d.ledger.ForLog() {
		if e.Approved && !e.Revoked && refusal(e) == "" && !d.isMade(e) && !known[string(e.Key)] {
			known[string(e.Key)] = true
			if err := let(a, e.Signer, e.Name, e.Key); err != nil {
				return err
			}
		}
	}
	// Requests for certificates come and go, too: the server is not to be bothered with them.
	if reflect.DeepEqual(a, d.current) {
		return nil
	}
	if err := d.server.SetAccess(a); err != nil {
		return err
	}
	d.current = a
	return nil
}

func let(a *jetstream.Access, signer, name string, key ed25519.PublicKey) error {
	public, err := credential.PublicOf(key)
	if err != nil {
		return err
	}
	group := a.Readers
	if signer == request.NodeSigner {
		group = a.Nodes
	}
	group[name] = append(group[name], public)
	return nil
}

// isMade: the server knows a key once.
func (d *doorman) isMade(e request.Entry) bool {
	for _, h := range d.made.holders {
		if key, err := h.Key(); err == nil && e.Key.Equal(key.Public()) {
			return true
		}
	}
	return false
}

// refusal is why a request cannot be granted, "" where it can.
func refusal(e request.Entry) string {
	if e.Refusal != "" {
		return e.Refusal
	}
	if err := jetstream.CheckName(e.Name); err != nil {
		return err.Error()
	}
	return ""
}

// run follows the ledger until ctx ends.
func (d *doorman) run(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	requests := client.CertificatesV1()
	if err := d.register(ctx, requests); err != nil {
		return err
	}
	for wait := firstReport; ctx.Err() == nil; {
		changed := d.ledger.Changed()
		if err := d.admit(); err != nil {
			return err
		}
		var again <-chan time.Time
		if d.report(ctx, requests) {
			wait = firstReport
		} else {
			again, wait = time.After(wait), min(2*wait, lastReport)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
		}
	}
	return nil
}

// How long a request waits for its condition where writing it failed, at first and at most. Whether the key is let
// in does not wait for that.
const (
	firstReport = 2 * time.Second
	lastReport  = time.Minute
)

// report says on the requests what has come of them; false where that cannot be written now.
func (d *doorman) report(ctx context.Context, requests certificatesclient.CertificatesV1Interface) (done bool) {
	done = true
	for _, e := range d.ledger.ForLog() {
		err := d.reportOn(ctx, requests, e)
		if err == nil || ctx.Err() != nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // a conflict is a change that the ledger will tell
		}
		d.logger.Warn("saying on a request for the log that it is in force", "request", e.Request, events.LogError, err)
		done = false
	}
	return done
}

func (d *doorman) reportOn(ctx context.Context, requests certificatesclient.CertificatesV1Interface, e request.Entry) error {
	condition := certificatesv1.CertificateSigningRequestCondition{Type: request.InForce, Status: corev1.ConditionTrue, Reason: "LetIn",
		Message: "the log's server lets this key in"}
	switch why := refusal(e); {
	case e.Approved && why != "":
		condition = certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "Invalid", Message: why}
	case e.Revoked && e.InForce:
		condition.Status, condition.Reason, condition.Message = corev1.ConditionFalse, "Revoked", "the log's server turns this key away"
	case !e.Approved || e.Revoked || e.InForce:
		return nil
	}
	csr, err := requests.CertificateSigningRequests().Get(ctx, e.Request, metav1.GetOptions{})
	if err != nil {
		return err
	}
	setCondition(csr, condition)
	return requests.RESTClient().Put().Resource(request.Resource).Name(csr.Name).SubResource("status").
		SetHeader("Orlog-Cause", csr.ResourceVersion).Body(csr).Do(ctx).Error()
}

func setCondition(csr *certificatesv1.CertificateSigningRequest, c certificatesv1.CertificateSigningRequestCondition) {
	for i, is := range csr.Status.Conditions {
		if is.Type == c.Type {
			csr.Status.Conditions[i] = c
			return
		}
	}
	csr.Status.Conditions = append(csr.Status.Conditions, c)
}

// register makes and approves the requests of whoever has credentials from orlogd.
func (d *doorman) register(ctx context.Context, requests certificatesclient.CertificatesV1Interface) error {
	for _, h := range d.made.holders {
		key, err := h.Key()
		if err != nil {
			return err
		}
		csr, err := request.New(h.signer, h.name, key)
		if err != nil {
			return err
		}
		if err := approved(ctx, requests.CertificateSigningRequests(), csr, "made by orlogd at its start"); err != nil {
			return fmt.Errorf("recording the credentials of %s: %w", h.name, err)
		}
	}
	return d.forget(ctx, requests.CertificateSigningRequests())
}

// byOrlogd is the reason of approvals and revocations that orlogd gives itself.
const byOrlogd = "Orlogd"

// forget revokes what was let in for a file of credentials that has been deleted since.
func (d *doorman) forget(ctx context.Context, requests certificatesclient.CertificateSigningRequestInterface) error {
	for _, e := range d.ledger.ForLog() {
		if e.ApprovedFor != byOrlogd || e.Revoked || d.isMade(e) {
			continue
		}
		csr, err := requests.Get(ctx, e.Request, metav1.GetOptions{})
		if err == nil {
			setCondition(csr, certificatesv1.CertificateSigningRequestCondition{Type: request.Revoked, Status: corev1.ConditionTrue,
				Reason: byOrlogd, Message: "the file with the credentials has been deleted"})
			_, err = requests.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("revoking the credentials of %s: %w", e.Name, err)
		}
	}
	return nil
}

// approved makes a request and approves it. One that was decided upon already stays as it is.
func approved(ctx context.Context, requests certificatesclient.CertificateSigningRequestInterface, want *certificatesv1.CertificateSigningRequest, why string) error {
	csr, err := requests.Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		csr, err = requests.Get(ctx, want.Name, metav1.GetOptions{})
	}
	if err != nil || len(csr.Status.Conditions) > 0 {
		return err
	}
	setCondition(csr, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: byOrlogd, Message: why})
	_, err = requests.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return nil // somebody else decided
	}
	return err
}

// openDoor reads the ledger and, where the log's server is orlogd's own, lets in whoever may come and opens its
// port; else there is no doorman. It waits until the projection has read all that the log holds: whoever was
// revoked before a crash is not let in after it.
func openDoor(ctx context.Context, stores *stores, logs *logs, logger *slog.Logger) (*access.Ledger, *doorman, error) {
	ledger := access.New(stores.gateway, logger)
	last, err := logs.log.Last(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := stores.gateway.WaitFor(ctx, last); err != nil {
		return nil, nil, fmt.Errorf("reading the log up to %d: %w", last, errors.Join(err, context.Cause(ctx)))
	}
	if err := ledger.CatchUp(ctx); err != nil {
		return nil, nil, err
	}
	if logs.server == nil {
		return ledger, nil, nil
	}
	d := &doorman{server: logs.server, ledger: ledger, made: logs.made, logger: logger}
	if err := d.admit(); err != nil {
		return nil, nil, err
	}
	return ledger, d, logs.server.Open()
}

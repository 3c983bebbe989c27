package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubernetes/pkg/controlplane"
)

// gatewayLabel marks the Leases of gateways, in kube-system.
const gatewayLabel = "orlog.io/gateway"

// leaseCallLimit bounds what one call waits for the API.
const leaseCallLimit = 5 * time.Second

// gatewayLeases says which gateways live: each keeps a Lease, and what is not renewed is given up. It implements
// upstream's reconcilers.Leases, whose own variant keeps its state in etcd, past the storage interface.
type gatewayLeases struct {
	client kubernetes.Interface
	now    func() time.Time

	mu sync.Mutex
	// seen is, by the Lease's name, its last renewal and when it was first seen here: only this gateway's clock
	// decides, so the others' need not agree with it.
	seen map[string]renewal
}

type renewal struct {
	at    metav1.MicroTime
	since time.Time
}

func newGatewayLeases(client kubernetes.Interface) *gatewayLeases {
	return &gatewayLeases{client: client, now: time.Now, seen: map[string]renewal{}}
}

func leaseName(ip string) string { return "gateway-" + strings.NewReplacer(":", "-").Replace(ip) }

// ListLeases implements reconcilers.Leases: the addresses of living gateways. What is left of dead ones is
// deleted.
func (l *gatewayLeases) ListLeases() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseCallLimit)
	defer cancel()
	leases := l.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	all, err := leases.List(ctx, metav1.ListOptions{LabelSelector: gatewayLabel})
	if err != nil {
		return nil, fmt.Errorf("gateways: %w", err)
	}
	var addresses []string
	for _, lease := range all.Items {
		if lease.Spec.HolderIdentity == nil {
			continue
		}
		if l.lives(&lease) {
			addresses = append(addresses, *lease.Spec.HolderIdentity)
			continue
		}
		same := metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}
		if err := leases.Delete(ctx, lease.Name, metav1.DeleteOptions{Preconditions: &same}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return nil, fmt.Errorf("gateways: %w", err)
		}
	}
	slices.Sort(addresses)
	return addresses, nil
}

// lives reports whether the lease was renewed lately.
func (l *gatewayLeases) lives(lease *coordinationv1.Lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at metav1.MicroTime
	if lease.Spec.RenewTime != nil {
		at = *lease.Spec.RenewTime
	}
	last, known := l.seen[lease.Name]
	if !known || !last.at.Equal(&at) {
		last = renewal{at: at, since: l.now()}
		l.seen[lease.Name] = last
	}
	return l.now().Sub(last.since) < controlplane.DefaultEndpointReconcilerTTL
}

// UpdateLease implements reconcilers.Leases: the gateway at this address lives.
func (l *gatewayLeases) UpdateLease(ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaseCallLimit)
	defer cancel()
	leases := l.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	seconds, renewed := int32(controlplane.DefaultEndpointReconcilerTTL/time.Second), metav1.NewMicroTime(l.now())
	want := coordinationv1.LeaseSpec{HolderIdentity: &ip, LeaseDurationSeconds: &seconds, RenewTime: &renewed}
	is, err := leases.Get(ctx, leaseName(ip), metav1.GetOptions{})
	if err == nil {
		is.Spec = want
		_, err = leases.Update(ctx, is, metav1.UpdateOptions{})
	} else if apierrors.IsNotFound(err) {
		err = l.create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: leaseName(ip), Labels: map[string]string{gatewayLabel: ""}}, Spec: want})
	}
	if err != nil {
		return fmt.Errorf("gateways: renewing the lease of %s: %w", ip, err)
	}
	return nil
}

// create makes the lease and, on the cluster's first day, its namespace.
func (l *gatewayLeases) create(ctx context.Context, lease *coordinationv1.Lease) error {
	leases := l.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	_, err := leases.Create(ctx, lease, metav1.CreateOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem}}
	if _, err := l.client.CoreV1().Namespaces().Create(ctx, system, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	return err
}

// RemoveLease implements reconcilers.Leases: the gateway at this address is gone.
func (l *gatewayLeases) RemoveLease(ip string) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaseCallLimit)
	defer cancel()
	err := l.client.CoordinationV1().Leases(metav1.NamespaceSystem).Delete(ctx, leaseName(ip), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("gateways: ending the lease of %s: %w", ip, err)
	}
	return nil
}

// Destroy implements reconcilers.Leases; there is nothing to free.
func (l *gatewayLeases) Destroy() {}

package main

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/orlog-io/orlog/services/gateway"
)

// holders of the kubeconfigs that orlogd writes at its start: user and group.
func (o options) kubeconfigHolders() [][2]string {
	return [][2]string{{gateway.AdminUser, gateway.MastersGroup}, {gateway.NodeUserPrefix + o.nodeName, gateway.NodesGroup}}
}

// recordKubeconfigs makes the certificates in those kubeconfigs requests on the log, so that they can be seen
// and revoked like all others. One that was revoked is not written again: the next start makes another.
func recordKubeconfigs(ctx context.Context, gw *gateway.Gateway, o options) error {
	client, err := kubernetes.NewForConfig(gw.LoopbackConfig())
	if err != nil {
		return err
	}
	requests := client.CertificatesV1().CertificateSigningRequests()
	for _, h := range o.kubeconfigHolders() {
		want, err := gw.Record(h[0], h[1])
		if err != nil {
			return err
		}
		err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if err := approved(ctx, requests, want, "made by orlogd at its start"); err != nil {
				return err
			}
			csr, err := requests.Get(ctx, want.Name, metav1.GetOptions{})
			if err != nil || len(csr.Status.Certificate) > 0 {
				return err
			}
			csr.Status.Certificate = want.Status.Certificate
			_, err = requests.UpdateStatus(ctx, csr, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			return fmt.Errorf("recording the kubeconfig of %s: %w", h[0], err)
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	"k8s.io/client-go/util/retry"

	"github.com/orlog-io/orlog/services/access/request"
)

func newAuthRevokeCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var byRequest bool
	c := &cobra.Command{
		Use:   "revoke KIND/NAME...",
		Short: "Take access away, at once and for ever",
		Long: `Take access away, at once and for ever: all certificates and keys of the log that a user, a node or an integrator has.
Connections that are open are cut. It concerns keys, not names: the same name can be given access anew, with new keys.

Service accounts' tokens end with their service account (orlog delete serviceaccount).`,
		Example: `  # A program must not read the log any more
  orlog auth revoke integrator/billing --reason "contract ended"

  # Alice's laptop was stolen: all her certificates; then a new one
  orlog auth revoke user/alice
  orlog auth kubeconfig alice -o alice.kubeconfig

  # A node that is gone: its certificate and its key of the log
  orlog auth revoke node/worker-2

  # One of several
  orlog auth revoke --request log-integrator-billing-1f2e3d4c5b`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			holdings, err := api.holdings(c.Context())
			if err != nil {
				return err
			}
			var chosen []holding
			for _, arg := range args {
				some, err := choose(holdings, arg, byRequest)
				if err != nil {
					return err
				}
				chosen = append(chosen, some...)
			}
			requests, err := api.requests()
			if err != nil {
				return err
			}
			var errs []error
			for _, h := range chosen {
				if err := revoke(c.Context(), requests, h); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(streams.Out, "revoked the %s of %s/%s (%s)\n", h.Holds, h.Kind, h.Name, h.Request)
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&byRequest, "request", false, "The arguments are names of requests, as orlog auth list shows them")
	return c
}

// choose finds what is meant by KIND/NAME, by NAME alone where one kind only has it, or by a request's name.
func choose(all []holding, arg string, byRequest bool) ([]holding, error) {
	kind, name, both := strings.Cut(arg, "/")
	if !both || kind != kindUser && kind != kindNode && kind != kindIntegrator {
		kind, name = "", arg
	}
	var out []holding
	kinds, gone := map[string]bool{}, false
	for _, h := range all {
		if byRequest && h.Request != arg || !byRequest && (h.Name != name || kind != "" && h.Kind != kind) {
			continue
		}
		if !h.lives() {
			gone = true
			continue
		}
		out = append(out, h)
		kinds[h.Kind] = true
	}
	switch {
	case len(kinds) > 1:
		return nil, fmt.Errorf("%s: more than one kind has this name: say user/%[1]s, node/%[1]s or integrator/%[1]s", arg)
	case len(out) > 0:
		return out, nil
	case gone:
		return nil, fmt.Errorf("%s: has no access any more (orlog auth list --all)", arg)
	}
	return nil, fmt.Errorf("%s: nobody of that name has access (orlog auth list)", arg)
}

// revoke gives the condition and waits, where the log's server is to act on it, until it has.
func revoke(ctx context.Context, requests certificatesclient.CertificateSigningRequestInterface, h holding) error {
	var csr *certificatesv1.CertificateSigningRequest
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := requests.Get(ctx, h.Request, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Status.Conditions = append(now.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: request.Revoked, Status: corev1.ConditionTrue, Reason: "OrlogAuth", Message: "revoked by whoever ran orlog auth"})
		csr, err = requests.UpdateApproval(ctx, now.Name, now, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking %s: %w", h.Request, err)
	}
	if h.Holds != "log key" {
		return nil
	}
	_, err = await(ctx, requests, csr, func(c *certificatesv1.CertificateSigningRequest) bool { return !inForce(c) })
	return err
}

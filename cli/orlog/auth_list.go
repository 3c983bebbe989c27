package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/orlog-io/orlog/services/access/request"
)

// Kinds of those who have access.
const (
	kindUser       = "user"
	kindNode       = "node"
	kindIntegrator = "integrator"
)

// holding is one credential that somebody has, or had, or asks for.
type holding struct {
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	Groups  []string  `json:"groups,omitempty"`
	Holds   string    `json:"holds"` // certificate or log key
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires,omitzero"`
	// By is who asked for it.
	By      string `json:"by"`
	Request string `json:"request"`
	csr     *certificatesv1.CertificateSigningRequest
}

func newAuthListCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List who has access: users, nodes, integrators",
		Long: `List who has access by certificates and keys of the log: users, nodes, integrators.

Service accounts' tokens and identities of other issuers are not among them.`,
		Example: `  # Who has access
  orlog auth list

  # Those who had it, too
  orlog auth list --all

  # Who gave it, who took it, when
  orlog history csr/log-integrator-billing-1f2e3d4c5b`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			holdings, err := api.holdings(c.Context())
			if err != nil {
				return err
			}
			if !all {
				holdings = slices.DeleteFunc(holdings, func(h holding) bool { return !h.lives() })
			}
			return printHoldings(streams.Out, holdings, api.now())
		},
	}
	c.Flags().BoolVar(&all, "all", false, "Also what was revoked, denied or has failed or expired")
	return c
}

// holdings reads all requests that give access of the kinds that are listed.
func (a *apiClient) holdings(ctx context.Context) ([]holding, error) {
	requests, err := a.requests()
	if err != nil {
		return nil, err
	}
	list, err := requests.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []holding
	for i := range list.Items {
		if h, ok := holdingOf(&list.Items[i], a.now()); ok {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b holding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since), cmp.Compare(a.Request, b.Request))
	})
	return out, nil
}

// holdingOf reads a request; not ok where it is addressed to other signers, or holds no certificate request.
func holdingOf(csr *certificatesv1.CertificateSigningRequest, now time.Time) (h holding, ok bool) {
	e, err := request.Of(csr)
	if err != nil {
		return h, false
	}
	h = holding{Kind: kindUser, Name: e.Name, Holds: "certificate", Since: csr.CreationTimestamp.Time, By: csr.Spec.Username, Request: csr.Name, csr: csr}
	switch csr.Spec.SignerName {
	case request.ReaderSigner:
		h.Kind, h.Holds = kindIntegrator, "log key"
	case request.NodeSigner:
		h.Kind, h.Holds = kindNode, "log key"
	case certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName, request.OrlogdSigner:
		if node, is := strings.CutPrefix(e.Name, request.NodePrefix); is {
			h.Kind, h.Name = kindNode, node
		}
	default:
		return h, false
	}
	if block, _ := pem.Decode(csr.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			h.Expires, h.Groups = cert.NotAfter, cert.Subject.Organization
		}
	}
	h.State = accessState(csr, e, h, now)
	return h, true
}

func accessState(csr *certificatesv1.CertificateSigningRequest, e request.Entry, h holding, now time.Time) string {
	switch {
	case e.Revoked:
		return "revoked"
	case hasCondition(csr, certificatesv1.CertificateDenied):
		return "denied"
	case hasCondition(csr, certificatesv1.CertificateFailed):
		return "failed"
	case !h.Expires.IsZero() && now.After(h.Expires):
		return "expired"
	case e.InForce || issued(csr):
		return "in force"
	case e.Approved:
		return "approved"
	}
	return "asked for"
}

// lives: it gives access, or may yet.
func (h holding) lives() bool {
	return h.State == "in force" || h.State == "approved" || h.State == "asked for"
}

func printHoldings(w io.Writer, holdings []holding, now time.Time) error {
	t := printers.GetNewTabWriter(w)
	fmt.Fprintln(t, "KIND\tNAME\tGROUPS\tHOLDS\tSTATE\tAGE\tEXPIRES\tASKED FOR BY\tREQUEST")
	for _, h := range holdings {
		expires := "never"
		if !h.Expires.IsZero() {
			expires = "in " + duration.HumanDuration(h.Expires.Sub(now))
			if now.After(h.Expires) {
				expires = "is past"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Kind, h.Name, cmp.Or(strings.Join(h.Groups, ","), "-"), h.Holds, h.State,
			duration.HumanDuration(now.Sub(h.Since)), expires, h.By, h.Request)
	}
	return t.Flush()
}

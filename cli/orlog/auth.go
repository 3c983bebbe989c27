package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"

	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/services/access/request"
)

// awaitLimit bounds how long a command waits for orlogd to act on a request.
const awaitLimit = 30 * time.Second

// extendAuth adds to kubectl's auth what gives and takes access.
func extendAuth(root *cobra.Command, api *apiClient, streams genericiooptions.IOStreams) {
	c := subcommand(root, "auth")
	c.Short = "Give and take access; inspect authorization"
	c.Long = `Give and take access; inspect authorization.

Access is a request that somebody approved, an object on the log like any other: orlog auth list shows them, and
orlog history csr/NAME who gave one, who took it, when and why (--reason). Keys are made here and stay here: only
public keys reach the cluster. Whoever has the verb approve on the signer may give and take.`
	c.AddCommand(newAuthKubeconfigCommand(api, streams), newAuthIntegratorCommand(api, streams), newAuthNodeCommand(api, streams),
		newAuthListCommand(api, streams), newAuthRevokeCommand(api, streams))
}

// requests is the API of certificate signing requests.
func (a *apiClient) requests() (certificatesclient.CertificateSigningRequestInterface, error) {
	set, err := a.factory.KubernetesClientSet()
	if err != nil {
		return nil, err
	}
	return set.CertificatesV1().CertificateSigningRequests(), nil
}

// grant makes a request, approves it and waits until it is done: issued, or let in.
func grant(ctx context.Context, requests certificatesclient.CertificateSigningRequestInterface, want *certificatesv1.CertificateSigningRequest,
	done func(*certificatesv1.CertificateSigningRequest) bool,
) (*certificatesv1.CertificateSigningRequest, error) {
	csr, err := requests.Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "OrlogAuth", Message: "approved by whoever ran orlog auth"})
	approved, err := requests.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{})
	if err != nil {
		if undo := requests.Delete(ctx, csr.Name, metav1.DeleteOptions{}); undo != nil && !apierrors.IsForbidden(undo) {
			err = errors.Join(err, undo)
		}
		return nil, fmt.Errorf("approving request %s: %w", csr.Name, err)
	}
	return await(ctx, requests, approved, done)
}

// await follows a request until it is done; one that was denied or failed is an error.
func await(ctx context.Context, requests certificatesclient.CertificateSigningRequestInterface, csr *certificatesv1.CertificateSigningRequest,
	done func(*certificatesv1.CertificateSigningRequest) bool,
) (*certificatesv1.CertificateSigningRequest, error) {
	if done(csr) {
		return csr, nil
	}
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	w, err := requests.Watch(ctx, metav1.ListOptions{ResourceVersion: csr.ResourceVersion, FieldSelector: fields.OneTermEqualSelector("metadata.name", csr.Name).String()})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return nil, fmt.Errorf("request %s: the connection ended before it was done: orlog auth list says how it went", csr.Name)
			}
			now, ok := e.Object.(*certificatesv1.CertificateSigningRequest)
			if !ok {
				return nil, apierrors.FromObject(e.Object)
			}
			for _, c := range now.Status.Conditions {
				if c.Type == certificatesv1.CertificateFailed || c.Type == certificatesv1.CertificateDenied {
					return nil, fmt.Errorf("request %s: %s: %s", csr.Name, c.Reason, c.Message)
				}
			}
			if done(now) {
				return now, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("request %s: not acted upon within %v: is orlogd well (orlog get --raw /readyz)? orlog auth list shows how it goes on", csr.Name, awaitLimit)
		}
	}
}

func issued(csr *certificatesv1.CertificateSigningRequest) bool {
	return len(csr.Status.Certificate) > 0
}

func inForce(csr *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(csr, request.InForce)
}

func hasCondition(csr *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// logClients is how clients reach the log.
type logClients struct {
	URL       string `json:"url"`
	Authority string `json:"certificateAuthority"`
}

// logClients asks for it, before anything is made that would be of no use without.
func (a *apiClient) logClients(ctx context.Context) (logClients, error) {
	var l logClients
	if err := a.getJSON(ctx, "/orlog/v1/log", nil, &l); err != nil {
		return l, fmt.Errorf("how to reach the log: %w", err)
	}
	return l, nil
}

// letIn makes a key for the log and has it let in.
func (a *apiClient) letIn(ctx context.Context, signer, name string, authority string) (credential.Credential, error) {
	c, err := credential.New([]byte(authority))
	if err != nil {
		return c, err
	}
	key, err := c.Key()
	if err != nil {
		return c, err
	}
	want, err := request.New(signer, name, key)
	if err != nil {
		return c, err
	}
	requests, err := a.requests()
	if err != nil {
		return c, err
	}
	_, err = grant(ctx, requests, want, inForce)
	return c, err
}

// mustNotExist refuses to write over what is there: it may be somebody's only key.
func mustNotExist(paths ...string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already: remove it, or give another -o", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// emit writes what holds a key to a file of mode 0600, or where there is none to standard output.
func emit(streams genericiooptions.IOStreams, path string, content []byte) error {
	if path == "" || path == "-" {
		_, err := streams.Out.Write(content)
		return err
	}
	return credential.Write(path, content)
}

// parseLife reads how long something is to live: 90d, 36h, 30m.
func parseLife(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, fmt.Errorf("--ttl %q: want a time such as 90d, 36h or 30m", text)
}

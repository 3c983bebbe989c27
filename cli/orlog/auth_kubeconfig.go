package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/orlog-io/orlog/services/access/request"
)

// What Kubernetes issues: at least ten minutes, and orlogd at most a year.
const shortestLife, longestLife = 10 * time.Minute, 365 * 24 * time.Hour

type authKubeconfigFlags struct {
	groups         []string
	ttl, output    string
	url            string
	serviceAccount string
}

func newAuthKubeconfigCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	o := &authKubeconfigFlags{}
	c := &cobra.Command{
		Use:   "kubeconfig (USER | --service-account NAMESPACE/NAME)",
		Short: "Make a kubeconfig for a user, with a certificate of their own",
		Long: `Make a kubeconfig for a user, with a certificate of their own.

The key is made here; orlogd issues the certificate. What the user may do is up to RBAC: orlog create rolebinding
and clusterrolebinding give roles to users and groups. For programs, --service-account makes a kubeconfig with a
token bound to a service account instead.`,
		Example: `  # Alice, who may view one namespace
  orlog auth kubeconfig alice --group developers -o alice.kubeconfig
  orlog create rolebinding alice-views --clusterrole=view --user=alice -n shop

  # For a week only, and to be used from elsewhere
  orlog auth kubeconfig bob --ttl 7d --url https://orlog.example.com:6443 -o bob.kubeconfig

  # A program's, by a service account's token
  orlog auth kubeconfig --service-account shop/deployer --ttl 24h -o deployer.kubeconfig`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (o.serviceAccount != "") {
				return fmt.Errorf("give the name of a user, or --service-account NAMESPACE/NAME")
			}
			if err := o.check(); err != nil {
				return err
			}
			if o.serviceAccount != "" {
				return o.runToken(c.Context(), api, streams)
			}
			return o.run(c.Context(), api, args[0], streams)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.groups, "group", nil, "Group that the user belongs to, repeatable")
	f.StringVar(&o.ttl, "ttl", "90d", "How long it is good for: 90d, 36h, 30m; at most 365d, at least 10m")
	f.StringVarP(&o.output, "output", "o", "", "File to write, of mode 0600 (default: standard output)")
	f.StringVar(&o.url, "url", "", "URL of the API server for the kubeconfig (default: the one that you use or, where that is this machine's loopback, the one that nodes use)")
	f.StringVar(&o.serviceAccount, "service-account", "", "NAMESPACE/NAME of a service account whose token to use")
	return c
}

func (o *authKubeconfigFlags) life() (time.Duration, error) {
	d, err := parseLife(o.ttl)
	if err == nil && (d < shortestLife || d > longestLife) {
		err = fmt.Errorf("--ttl %s: want at least %v and at most 365d", o.ttl, shortestLife)
	}
	return d, err
}

func (o *authKubeconfigFlags) check() error {
	if _, err := o.life(); err != nil {
		return err
	}
	for _, g := range o.groups {
		if g == "system:masters" {
			return fmt.Errorf("--group %s: Kubernetes issues no certificates for it, as RBAC could not bound them: use orlog create clusterrolebinding --clusterrole=cluster-admin", g)
		}
	}
	if o.output != "" && o.output != "-" {
		return mustNotExist(o.output)
	}
	return nil
}

func (o *authKubeconfigFlags) run(ctx context.Context, api *apiClient, user string, streams genericiooptions.IOStreams) error {
	cluster, err := api.cluster(ctx, o.url)
	if err != nil {
		return err
	}
	life, err := o.life()
	if err != nil {
		return err
	}
	who, err := api.certify(ctx, certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: user, Organization: o.groups}, life)
	if err != nil {
		return err
	}
	return writeKubeconfig(streams, o.output, cluster, user, who)
}

func (o *authKubeconfigFlags) runToken(ctx context.Context, api *apiClient, streams genericiooptions.IOStreams) error {
	namespace, name, ok := strings.Cut(o.serviceAccount, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("--service-account %q: want NAMESPACE/NAME", o.serviceAccount)
	}
	if len(o.groups) > 0 {
		return fmt.Errorf("--group does not go with --service-account: a service account's groups follow from its namespace")
	}
	cluster, err := api.cluster(ctx, o.url)
	if err != nil {
		return err
	}
	life, err := o.life()
	if err != nil {
		return err
	}
	set, err := api.factory.KubernetesClientSet()
	if err != nil {
		return err
	}
	seconds := int64(life.Seconds())
	token, err := set.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if given := time.Until(token.Status.ExpirationTimestamp.Time); given < life-time.Hour {
		fmt.Fprintf(streams.ErrOut, "the token is good until %s only\n", token.Status.ExpirationTimestamp.Format(time.RFC3339))
	}
	return writeKubeconfig(streams, o.output, cluster, o.serviceAccount, &clientcmdapi.AuthInfo{Token: token.Status.Token})
}

// certify makes a key and has a certificate issued for it.
func (a *apiClient) certify(ctx context.Context, signer string, subject pkix.Name, life time.Duration) (*clientcmdapi.AuthInfo, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	want, err := certificateRequest(signer, subject, key, life)
	if err != nil {
		return nil, err
	}
	requests, err := a.requests()
	if err != nil {
		return nil, err
	}
	csr, err := grant(ctx, requests, want, issued)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &clientcmdapi.AuthInfo{ClientCertificateData: csr.Status.Certificate,
		ClientKeyData: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}

func certificateRequest(signer string, subject pkix.Name, key crypto.Signer, life time.Duration) (*certificatesv1.CertificateSigningRequest, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		return nil, err
	}
	info, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	kind, name := "user", subject.CommonName
	if node, is := strings.CutPrefix(name, request.NodePrefix); is {
		kind, name = "node", node
	}
	seconds := int32(life.Seconds())
	csr := &certificatesv1.CertificateSigningRequest{}
	csr.Name = request.ObjectName(kind, name, request.IDOf(info))
	csr.Spec.SignerName = signer
	csr.Spec.ExpirationSeconds = &seconds
	csr.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	csr.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return csr, nil
}

// cluster is how others reach the API server, url where given.
func (a *apiClient) cluster(ctx context.Context, at string) (*clientcmdapi.Cluster, error) {
	cfg, err := a.factory.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	ca, err := authorityOf(cfg)
	if err != nil {
		return nil, err
	}
	_, base, err := a.connect()
	if err != nil {
		return nil, err
	}
	server := base.Scheme + "://" + base.Host
	if at != "" {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("--url %q: want https://HOST:PORT", at)
		}
		server = at
	} else if host := base.Hostname(); host == "localhost" || net.ParseIP(host).IsLoopback() {
		// Loopback is of no use elsewhere.
		server = cmp.Or(a.advertised(ctx), server)
	}
	return &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}, nil
}

// advertised is where nodes and pods reach the API server, "" where that is not known or not to be seen.
func (a *apiClient) advertised(ctx context.Context) string {
	set, err := a.factory.KubernetesClientSet()
	if err != nil {
		return ""
	}
	slice, err := set.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil || len(slice.Endpoints) == 0 || len(slice.Endpoints[0].Addresses) == 0 || len(slice.Ports) == 0 || slice.Ports[0].Port == nil {
		return ""
	}
	return "https://" + net.JoinHostPort(slice.Endpoints[0].Addresses[0], strconv.Itoa(int(*slice.Ports[0].Port)))
}

func authorityOf(cfg *rest.Config) ([]byte, error) {
	if len(cfg.CAData) > 0 || cfg.CAFile == "" {
		return cfg.CAData, nil
	}
	ca, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of your kubeconfig: %w", err)
	}
	return ca, nil
}

func writeKubeconfig(streams genericiooptions.IOStreams, path string, cluster *clientcmdapi.Cluster, user string, who *clientcmdapi.AuthInfo) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["orlog"], c.AuthInfos[user] = cluster, who
	c.Contexts["orlog"] = &clientcmdapi.Context{Cluster: "orlog", AuthInfo: user}
	c.CurrentContext = "orlog"
	content, err := clientcmd.Write(*c)
	if err != nil {
		return err
	}
	if err := emit(streams, path, content); err != nil {
		return err
	}
	if path != "" && path != "-" {
		_, err = fmt.Fprintf(streams.ErrOut, "%s: kubeconfig of %s for %s\n", path, user, cluster.Server)
	}
	return err
}

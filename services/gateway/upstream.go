package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	endpointproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	cpoptions "k8s.io/kubernetes/pkg/controlplane/apiserver/options"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	kubeadmission "k8s.io/kubernetes/pkg/kubeapiserver/admission"
)

// anonymousHealthOnly lets clients without credentials see whether the gateway is alive, and nothing else.
const anonymousHealthOnly = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions: [{path: /livez}, {path: /readyz}, {path: /healthz}, {path: /version}]
`

// nodeLeaseNamespace holds the nodes' heartbeats; it is made at start like the other system namespaces.
const nodeLeaseNamespace = "kube-node-lease"

// upstreamOptions says in upstream's flags how the API server is to run.
func upstreamOptions(ctx context.Context, s *settings, p *pki) (cpoptions.CompletedOptions, error) {
	o := cpoptions.NewOptions()
	o.SystemNamespaces = append(o.SystemNamespaces, nodeLeaseNamespace)
	o.EventTTL = s.EventTTL

	o.Etcd.SkipHealthEndpoints = true // they make etcd clients
	o.Etcd.DefaultStorageMediaType = runtime.ContentTypeJSON
	o.Etcd.StorageConfig.CountMetricPollPeriod = 0
	sizes, err := watchCacheSizes()
	if err != nil {
		return cpoptions.CompletedOptions{}, err
	}
	o.Etcd.WatchCacheSizes = sizes

	o.SecureServing.Listener, o.SecureServing.BindPort = s.listener, s.port
	o.SecureServing.BindAddress = s.listener.Addr().(*net.TCPAddr).IP
	o.SecureServing.ServerCert.CertKey.CertFile = p.file(servingName, ".crt")
	o.SecureServing.ServerCert.CertKey.KeyFile = p.file(servingName, ".key")

	g := o.GenericServerRunOptions
	g.AdvertiseAddress, g.ExternalHost = s.advertise, s.advertise.String()
	g.MaxRequestsInFlight, g.MaxMutatingRequestsInFlight = 3000, 1000
	// At the end answer 429 until requests in flight are done, and give watches a moment to end cleanly.
	g.ShutdownSendRetryAfter, g.ShutdownWatchTerminationGracePeriod = true, time.Second
	// Priority and fairness needs its queues synchronised before the first request and is built for many
	// tenants on one server; the in-flight limits above protect this one.
	o.Features.EnablePriorityAndFairness = false
	o.Features.EnableProfiling = false
	o.EnableAggregatorRouting = true

	o.Authorization.Modes = []string{"Node", "RBAC"}
	o.Admission.GenericAdmission.EnablePlugins = []string{"NodeRestriction"}
	if err := authentication(o, s, p); err != nil {
		return cpoptions.CompletedOptions{}, err
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return cpoptions.CompletedOptions{}, fmt.Errorf("gateway: feature gates: %w", err)
	}
	return o.Complete(ctx, nil, nil)
}

func authentication(o *cpoptions.Options, s *settings, p *pki) error {
	a := o.Authentication
	a.AuthenticationConfigFile = s.AuthenticationConfig
	if a.AuthenticationConfigFile == "" {
		a.AuthenticationConfigFile = filepath.Join(s.pkiDir, "authentication.yaml")
		if err := os.WriteFile(a.AuthenticationConfigFile, []byte(anonymousHealthOnly), 0o600); err != nil {
			return fmt.Errorf("gateway: authentication configuration: %w", err)
		}
	}
	a.ClientCert.ClientCA = p.file(caName, ".crt")
	a.RequestHeader.ClientCAFile = p.file(frontProxyCAName, ".crt")
	a.RequestHeader.AllowedNames = []string{frontProxyUser}
	a.RequestHeader.UsernameHeaders = []string{"X-Remote-User"}
	a.RequestHeader.UIDHeaders = []string{"X-Remote-Uid"}
	a.RequestHeader.GroupHeaders = []string{"X-Remote-Group"}
	a.RequestHeader.ExtraHeaderPrefixes = []string{"X-Remote-Extra-"}
	a.BootstrapToken.Enable = true
	a.ServiceAccounts.Issuers = []string{s.ServiceAccountIssuer}
	a.ServiceAccounts.KeyFiles = []string{p.file(serviceAccountName, ".pub")}
	a.ServiceAccounts.JWKSURI = "https://" + net.JoinHostPort(s.advertise.String(), strconv.Itoa(s.port)) + "/openid/v1/jwks"
	a.APIAudiences = []string{s.ServiceAccountIssuer}
	o.ServiceAccountSigningKeyFile = p.file(serviceAccountName, ".key")
	o.ProxyClientCertFile, o.ProxyClientKeyFile = p.file(frontProxyUser, ".crt"), p.file(frontProxyUser, ".key")
	return nil
}

// watchCacheSizes are upstream's: everything is cached but core/v1 Events.
func watchCacheSizes() ([]string, error) {
	return genericoptions.WriteWatchCacheSizes(kubeapiserver.DefaultWatchCacheSizes())
}

// chain is the configuration of the three API servers that delegate to one another.
type chain struct {
	kube       *controlplaneapiserver.Config
	extensions *apiextensionsapiserver.Config
	aggregator *aggregatorapiserver.Config
	informers  informers.SharedInformerFactory
}

// configure builds the chain's configuration, all of it on our storage.
func (g *Gateway) configure(opts cpoptions.CompletedOptions) (*chain, error) {
	generic, informers, factory, err := controlplaneapiserver.BuildGenericConfig(opts,
		[]*runtime.Scheme{legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme},
		controlplane.DefaultAPIResourceConfigSource(), generatedopenapi.GetOpenAPIDefinitions)
	if err != nil {
		return nil, fmt.Errorf("gateway: generic configuration: %w", err)
	}
	if g.settings.Tracer != nil {
		generic.TracerProvider = sharedTracer{g.settings.Tracer}
	}
	generic.EffectiveVersion = stampedVersion{generic.EffectiveVersion}
	generic.AddReadyzChecks(healthz.NamedCheck("event-log", g.logReachable))
	generic.LongRunningFunc = orStreams(generic.LongRunningFunc)
	// In-process reconcilers go through this client too: it must not be what slows them down.
	generic.LoopbackClientConfig.QPS, generic.LoopbackClientConfig.Burst = -1, -1
	generic.RESTOptionsGetter = g.stores.wrap(generic.RESTOptionsGetter)

	resolver, err := serviceResolver(generic.LoopbackClientConfig.Host, informers)
	if err != nil {
		return nil, err
	}
	c := &chain{informers: informers}
	var initializers []admission.PluginInitializer
	if c.kube, initializers, err = kubeConfig(opts, generic, informers, factory, resolver); err != nil {
		return nil, err
	}
	if err := g.configureDelegates(c, opts, initializers, resolver); err != nil {
		return nil, err
	}
	forgetEtcdMonitor()
	return c, nil
}

// logReachable is the readiness check that replaces etcd's.
func (g *Gateway) logReachable(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if _, err := g.settings.Log.Last(ctx); err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	return nil
}

func kubeConfig(opts cpoptions.CompletedOptions, generic *genericapiserver.Config, informers informers.SharedInformerFactory,
	factory *serverstorage.DefaultStorageFactory, resolver aggregatorapiserver.ServiceResolver,
) (*controlplaneapiserver.Config, []admission.PluginInitializer, error) {
	initializers, err := (&kubeadmission.Config{}).New()
	if err != nil {
		return nil, nil, fmt.Errorf("gateway: admission initializers: %w", err)
	}
	kube, genericInitializers, err := controlplaneapiserver.CreateConfig(opts, generic, informers, factory, resolver, initializers)
	if err != nil {
		return nil, nil, fmt.Errorf("gateway: kube configuration: %w", err)
	}
	return kube, genericInitializers, nil
}

// configureDelegates adds the CRD server below and the aggregator above the kube server. Only the
// aggregator's handler chain sees requests: the others serve what it delegates, behind it.
func (g *Gateway) configureDelegates(c *chain, opts cpoptions.CompletedOptions, initializers []admission.PluginInitializer,
	resolver aggregatorapiserver.ServiceResolver,
) (err error) {
	generic := c.kube.Generic
	wrapper := webhook.NewDefaultAuthenticationInfoResolverWrapper(c.kube.ProxyTransport, generic.EgressSelector,
		generic.LoopbackClientConfig, generic.TracerProvider)
	c.extensions, err = controlplaneapiserver.CreateAPIExtensionsConfig(*generic, c.informers, initializers, opts, 1, resolver, wrapper)
	if err != nil {
		return fmt.Errorf("gateway: CRD configuration: %w", err)
	}
	// Upstream stores definitions as v1beta1 because etcd limits sizes; history reads better in v1.
	definitions := g.stores.wrap(c.extensions.GenericConfig.RESTOptionsGetter)
	definitions.codec = apiextensionsapiserver.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion)
	c.extensions.GenericConfig.RESTOptionsGetter = definitions
	c.extensions.ExtraConfig.CRDRESTOptionsGetter = g.stores.wrap(c.extensions.ExtraConfig.CRDRESTOptionsGetter)

	c.aggregator, err = controlplaneapiserver.CreateAggregatorConfig(*generic, opts, c.informers, resolver, c.kube.ProxyTransport, nil, initializers)
	if err != nil {
		return fmt.Errorf("gateway: aggregator configuration: %w", err)
	}
	c.aggregator.GenericConfig.RESTOptionsGetter = g.stores.wrap(c.aggregator.GenericConfig.RESTOptionsGetter)
	c.aggregator.GenericConfig.BuildHandlerChainFunc = g.handlerChain
	return nil
}

// serviceResolver finds the pods behind the Services of webhooks and aggregated APIs by their endpoints, so
// that the gateway's host needs no Service routing.
func serviceResolver(loopback string, informers informers.SharedInformerFactory) (aggregatorapiserver.ServiceResolver, error) {
	slices, err := endpointproxy.NewEndpointSliceIndexerGetter(informers.Discovery().V1().EndpointSlices())
	if err != nil {
		return nil, fmt.Errorf("gateway: endpoint slices: %w", err)
	}
	resolver := aggregatorapiserver.NewEndpointServiceResolver(informers.Core().V1().Services().Lister(), slices)
	self, err := url.Parse(loopback)
	if err != nil {
		return nil, fmt.Errorf("gateway: loopback address %q: %w", loopback, err)
	}
	return aggregatorapiserver.NewLoopbackServiceResolver(resolver, self), nil
}

// handlerChain is upstream's, with who-and-why innermost (after authentication and impersonation) and time
// travel outermost (before a request's path is understood).
func (g *Gateway) handlerChain(api http.Handler, c *genericapiserver.Config) http.Handler {
	inner := *c
	inner.Authentication.Authenticator = rememberingAuthenticator{revokingAuthenticator{c.Authentication.Authenticator, g.settings.Ledger}}
	inner.Authorization.Authorizer = endpointsAuthorizer{c.Authorization.Authorizer}
	h := genericapiserver.DefaultBuildHandlerChain(g.withAttribution(g.refuseLive(g.withMetrics(api))), &inner)
	return g.settings.clients.recognise(g.withTravel(withIdentity(h)))
}

package gateway

import (
	"context"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	"k8s.io/kubernetes/pkg/controlplane/controller/defaultservicecidr"
	"k8s.io/kubernetes/pkg/controlplane/controller/kubernetesservice"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"
	admissionrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
	apiserverinternalrest "k8s.io/kubernetes/pkg/registry/apiserverinternal/rest"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	autoscalingrest "k8s.io/kubernetes/pkg/registry/autoscaling/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	certificatesrest "k8s.io/kubernetes/pkg/registry/certificates/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	flowcontrolrest "k8s.io/kubernetes/pkg/registry/flowcontrol/rest"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	noderest "k8s.io/kubernetes/pkg/registry/node/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	resourcerest "k8s.io/kubernetes/pkg/registry/resource/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	storagerest "k8s.io/kubernetes/pkg/registry/storage/rest"
	svmrest "k8s.io/kubernetes/pkg/registry/storagemigration/rest"
)

// newKubeServer makes the server of the built-in groups, in front of the CRD server.
func (g *Gateway) newKubeServer(config *controlplaneapiserver.Config, next genericapiserver.DelegationTarget) (*controlplaneapiserver.Server, error) {
	completed := config.Complete()
	server, err := completed.New(controlplaneapiserver.KubeAPIServer, next)
	if err != nil {
		return nil, fmt.Errorf("gateway: kube server: %w", err)
	}
	client, err := kubernetes.NewForConfig(completed.Generic.LoopbackClientConfig)
	if err != nil {
		return nil, fmt.Errorf("gateway: loopback client: %w", err)
	}
	core, err := newCoreProvider(&completed, g.settings, client, g.nodes)
	if err != nil {
		return nil, err
	}
	if err := server.InstallAPIs(providers(&completed, core, client)...); err != nil {
		return nil, fmt.Errorf("gateway: API groups: %w", err)
	}
	g.nodePorts = core.nodePorts
	g.addServiceHooks(server, &completed, client)
	if err := g.addSigners(server, &completed); err != nil {
		return nil, err
	}
	return server, addRoleAggregation(server, &completed)
}

// providers lists every built-in group, in the order of discovery. All are kept: admission and the authoriser
// watch more of them than one would think, and readiness waits for their informers.
func providers(c *controlplaneapiserver.CompletedConfig, core *coreProvider, client *kubernetes.Clientset) []controlplaneapiserver.RESTStorageProvider {
	authn, authz := c.Generic.Authentication, c.Generic.Authorization.Authorizer
	return []controlplaneapiserver.RESTStorageProvider{
		core,
		apiserverinternalrest.StorageProvider{},
		authenticationrest.RESTStorageProvider{Authenticator: authn.Authenticator, APIAudiences: authn.APIAudiences},
		authorizationrest.RESTStorageProvider{Authorizer: authz, RuleResolver: c.Generic.RuleResolver},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: authz},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: authz},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		svmrest.RESTStorageProvider{},
		flowcontrolrest.RESTStorageProvider{InformerFactory: c.Generic.SharedInformerFactory},
		appsrest.StorageProvider{},
		admissionrest.RESTStorageProvider{Authorizer: authz, DiscoveryClient: client.Discovery()},
		eventsrest.RESTStorageProvider{TTL: c.EventTTL},
		resourcerest.RESTStorageProvider{NamespaceClient: client.CoreV1().Namespaces(), Authorizer: authz},
	}
}

// addServiceHooks keeps the default ServiceCIDR, and the kubernetes Service with all living gateways as its endpoints.
func (g *Gateway) addServiceHooks(server *controlplaneapiserver.Server, c *controlplaneapiserver.CompletedConfig, client *kubernetes.Clientset) {
	endpoints := reconcilers.NewLeaseEndpointReconciler(reconcilers.NewEndpointsAdapter(client.CoreV1(), client.DiscoveryV1()), newGatewayLeases(client))
	kube := kubernetesservice.New(kubernetesservice.Config{
		PublicIP: g.settings.advertise, EndpointReconciler: endpoints, EndpointInterval: controlplane.DefaultEndpointReconcilerInterval,
		ServiceIP: g.settings.serviceIP, ServicePort: 443, PublicServicePort: g.settings.port,
	}, client, c.VersionedInformers.Core().V1().Services())
	generic := server.GenericAPIServer
	generic.AddPostStartHookOrDie("bootstrap-controller", func(hook genericapiserver.PostStartHookContext) error {
		kube.Start(hook.Done())
		return nil
	})
	generic.AddPreShutdownHookOrDie("stop-kubernetes-service-controller", func() error {
		kube.Stop()
		return nil
	})
	generic.AddPostStartHookOrDie("start-kubernetes-service-cidr-controller", func(hook genericapiserver.PostStartHookContext) error {
		defaultservicecidr.NewController(g.settings.services, net.IPNet{}, client).Start(hook)
		return nil
	})
}

// addRoleAggregation fills the roles that are made of others: admin, edit and view are empty without it. It
// works under the identity that upstream's bootstrap policy has for it.
func addRoleAggregation(server *controlplaneapiserver.Server, c *controlplaneapiserver.CompletedConfig) error {
	config := rest.CopyConfig(c.Generic.LoopbackClientConfig)
	config.Impersonate = rest.ImpersonationConfig{UserName: systemControllers + "clusterrole-aggregation-controller",
		Groups: []string{serviceaccount.AllServiceAccountsGroup, serviceaccount.MakeNamespaceGroupName(metav1.NamespaceSystem), user.AllAuthenticated}}
	client, err := rbacclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("gateway: role aggregation: %w", err)
	}
	rbac := c.VersionedInformers.Rbac().V1()
	aggregation, bindings := clusterroleaggregation.NewClusterRoleAggregation(rbac.ClusterRoles(), client), rbac.ClusterRoleBindings().Lister()
	return server.GenericAPIServer.AddPostStartHook("start-role-aggregation", func(hook genericapiserver.PostStartHookContext) error {
		go func() {
			// On first start another hook is only just writing the policy that permits this.
			err := wait.PollUntilContextCancel(hook, 100*time.Millisecond, true, func(context.Context) (bool, error) {
				_, err := bindings.Get("system:controller:clusterrole-aggregation-controller")
				return err == nil, nil
			})
			if err == nil {
				aggregation.Run(hook, 2)
			}
		}()
		return nil
	})
}

// groupPriorities orders groups and versions in discovery and so in kubectl: upstream's, with the groups that
// only a full cluster has.
func groupPriorities() map[schema.GroupVersion]controlplaneapiserver.APIServicePriority {
	p := controlplaneapiserver.DefaultGenericAPIServicePriorities()
	for _, g := range []struct {
		group    string
		priority int32
		versions []string // newest first
	}{
		{"apps", 17800, []string{"v1"}},
		{"autoscaling", 17500, []string{"v2", "v1"}},
		{"batch", 17400, []string{"v1"}},
		{"networking.k8s.io", 17200, []string{"v1", "v1beta1"}},
		{"policy", 17100, []string{"v1"}},
		{"storage.k8s.io", 16800, []string{"v1", "v1beta1", "v1alpha1"}},
		{"scheduling.k8s.io", 16600, []string{"v1", "v1alpha2"}},
		{"node.k8s.io", 16300, []string{"v1"}},
		{"resource.k8s.io", 16200, []string{"v1", "v1beta2", "v1beta1", "v1alpha3"}},
	} {
		for i, version := range g.versions {
			p[schema.GroupVersion{Group: g.group, Version: version}] = controlplaneapiserver.APIServicePriority{
				Group: g.priority, Version: int32(10 * (len(g.versions) - i))}
		}
	}
	return p
}

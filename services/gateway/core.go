package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/client-go/kubernetes"
	policyclient "k8s.io/client-go/kubernetes/typed/policy/v1"
	api "k8s.io/kubernetes/pkg/apis/core"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/kubernetes/pkg/registry/core/componentstatus"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	limitrangestore "k8s.io/kubernetes/pkg/registry/core/limitrange/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	pvstore "k8s.io/kubernetes/pkg/registry/core/persistentvolume/storage"
	pvcstore "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	podtemplatestore "k8s.io/kubernetes/pkg/registry/core/podtemplate/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	"k8s.io/kubernetes/pkg/registry/core/service/allocator"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	ipcontroller "k8s.io/kubernetes/pkg/registry/core/service/ipallocator/controller"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
	serviceaccountstore "k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage"
	"k8s.io/utils/net"
)

// serviceRepair is how often ClusterIPs and their IPAddress objects are compared.
const serviceRepair = 3 * time.Minute

// coreProvider installs core/v1. Upstream's own provider keeps NodePorts in etcd, past the storage interface,
// and dials kubelets by address; the rest is upstream's.
type coreProvider struct {
	*corerest.GenericConfig
	config     *controlplaneapiserver.CompletedConfig
	client     kubernetes.Interface
	authorizer authorizer.Authorizer
	nodes      *nodeConnections
	ips        ipallocator.Interface
	ports      *portallocator.PortAllocator
	nodePorts  *nodePorts // behind ports
}

func newCoreProvider(c *controlplaneapiserver.CompletedConfig, s *settings, client kubernetes.Interface, nodes *nodeConnections) (*coreProvider, error) {
	p := &coreProvider{GenericConfig: c.NewCoreGenericConfig(), config: c, client: client,
		authorizer: c.Generic.Authorization.Authorizer, nodes: nodes}
	networking := p.Informers.Networking().V1()
	var err error
	// ClusterIPs are upstream's IPAddress objects: ordinary objects on the log, one for each address.
	p.ips, err = ipallocator.NewMetaAllocator(client.NetworkingV1(), networking.ServiceCIDRs(), networking.IPAddresses(),
		net.IsIPv6CIDR(&s.services), nil)
	if err != nil {
		return nil, fmt.Errorf("gateway: ClusterIP allocator: %w", err)
	}
	p.ports, err = portallocator.New(s.nodePorts, func(size int, _ string, reserved int) (allocator.Interface, error) {
		p.nodePorts = newNodePorts(s, size, reserved)
		return p.nodePorts, nil
	})
	if err != nil {
		return nil, fmt.Errorf("gateway: node port allocator: %w", err)
	}
	return p, nil
}

// storages collects REST storage by resource.
type storages map[string]rest.Storage

// NewRESTStorage implements controlplaneapiserver.RESTStorageProvider.
func (p *coreProvider) NewRESTStorage(source serverstorage.APIResourceConfigSource, getter generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info, err := p.GenericConfig.NewRESTStorage(source, getter)
	if err != nil {
		return info, err
	}
	all := storages(info.VersionedResourcesStorageMap["v1"])
	plain, err := plainStorages(getter)
	if err != nil {
		return info, fmt.Errorf("gateway: core storage: %w", err)
	}
	maps.Copy(all, plain)
	if err := p.workloads(all, getter); err != nil {
		return info, fmt.Errorf("gateway: core storage: %w", err)
	}
	all["componentstatuses"] = componentstatus.NewStorage(func() map[string]componentstatus.Server { return nil })
	info.VersionedResourcesStorageMap["v1"] = all
	return info, nil
}

// plainStorages makes the resources that depend on no other.
func plainStorages(getter generic.RESTOptionsGetter) (storages, error) {
	templates, err1 := podtemplatestore.NewREST(getter)
	limits, err2 := limitrangestore.NewREST(getter)
	volumes, volumeStatus, err3 := pvstore.NewREST(getter)
	claims, claimStatus, err4 := pvcstore.NewREST(getter)
	replication, err5 := controllerstore.NewStorage(getter)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	return storages{
		"podtemplates": templates, "limitranges": limits,
		"persistentvolumes": volumes, "persistentvolumes/status": volumeStatus,
		"persistentvolumeclaims": claims, "persistentvolumeclaims/status": claimStatus,
		"replicationcontrollers": replication.Controller, "replicationcontrollers/status": replication.Status,
		"replicationcontrollers/scale": replication.Scale,
	}, nil
}

// workloads makes nodes, pods, services and what hangs on them.
func (p *coreProvider) workloads(all storages, getter generic.RESTOptionsGetter) error {
	transport := p.config.Extra.ProxyTransport
	nodes, err := nodestore.NewStorage(getter, kubeletclient.KubeletClientConfig{Port: 10250}, transport)
	if err != nil {
		return err
	}
	nodes.Proxy.Connection = proxiedConnections{p.nodes}
	disruption, err := policyclient.NewForConfig(p.LoopbackClientConfig)
	if err != nil {
		return err
	}
	pods, err := podstore.NewStorage(getter, p.nodes, transport, disruption, p.authorizer)
	if err != nil {
		return err
	}
	endpoints, err := endpointsstore.NewREST(getter)
	if err != nil {
		return err
	}
	services, serviceStatus, serviceProxy, err := servicestore.NewREST(getter, p.ips.IPFamily(),
		map[api.IPFamily]ipallocator.Interface{p.ips.IPFamily(): p.ips}, p.ports, endpoints, pods.Pod, transport)
	if err != nil {
		return err
	}
	maps.Copy(all, storages{
		"nodes": nodes.Node, "nodes/status": nodes.Status, "nodes/proxy": nodeProxy{nodes.Proxy},
		"pods": pods.Pod, "pods/status": pods.Status, "pods/binding": pods.Binding, "pods/eviction": pods.Eviction,
		"pods/ephemeralcontainers": pods.EphemeralContainers, "pods/resize": pods.Resize,
		"pods/log": pods.Log, "pods/exec": pods.Exec, "pods/attach": pods.Attach,
		"pods/portforward": pods.PortForward, "pods/proxy": pods.Proxy, "bindings": pods.LegacyBinding,
		"endpoints": endpoints,
		"services":  services, "services/status": serviceStatus, "services/proxy": serviceProxy,
	})
	return p.serviceAccounts(all, getter, pods, nodes)
}

// serviceAccounts replaces the generic storage, which cannot bind tokens to pods and nodes.
func (p *coreProvider) serviceAccounts(all storages, getter generic.RESTOptionsGetter, pods podstore.PodStorage, nodes *nodestore.NodeStorage) error {
	accounts, err := serviceaccountstore.NewREST(getter, p.ServiceAccountIssuer, p.APIAudiences, p.ServiceAccountMaxExpiration,
		pods.Pod.Store, all["secrets"].(rest.Getter), nodes.Node.Store, p.ExtendExpiration, p.MaxExtendedExpiration)
	if err != nil {
		return err
	}
	for _, replaced := range []string{"serviceaccounts", "serviceaccounts/token"} {
		if old := all[replaced]; old != nil {
			old.Destroy()
		}
	}
	all["serviceaccounts"], all["serviceaccounts/token"] = accounts, accounts.Token
	return nil
}

// PostStartHook implements genericapiserver.PostStartHookProvider: it compares Services with their addresses.
// Node ports need no repair, as they have no state of their own.
func (p *coreProvider) PostStartHook() (string, genericapiserver.PostStartHookFunc, error) {
	networking := p.Informers.Networking().V1()
	repair := ipcontroller.NewRepairIPAddress(serviceRepair, p.client, p.Informers.Core().V1().Services(),
		networking.ServiceCIDRs(), networking.IPAddresses())
	return "start-service-ip-repair-controller", func(hook genericapiserver.PostStartHookContext) error {
		first, stop := make(chan struct{}), make(chan struct{})
		go repair.RunUntil(func() { close(first) }, stop)
		context.AfterFunc(hook, func() { close(stop) })
		select {
		case <-first:
			return nil
		case <-hook.Done():
			return nil
		case <-time.After(time.Minute):
			return errors.New("gateway: the first check of ClusterIPs did not finish within a minute")
		}
	}, nil
}

// GroupName implements controlplaneapiserver.RESTStorageProvider.
func (p *coreProvider) GroupName() string { return api.GroupName }

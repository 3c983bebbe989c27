package agent

import (
	"context"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
)

// API is what the agent asks of the Kubernetes API. All else it knows from the log.
type API interface {
	// CreateNode registers a node.
	CreateNode(ctx context.Context, node *v1.Node) error
	// CreateToken makes a token for a service account.
	CreateToken(ctx context.Context, namespace, account string, req *authv1.TokenRequest) (*authv1.TokenRequest, error)
	// Events is where Kubernetes Events go.
	Events() record.EventSink
}

// scheme has the kinds that pass between the agent and the API. client-go's clientset has all that there are, and a
// client for each, which every machine would hold in memory for an agent that needs four requests.
var scheme = runtime.NewScheme()

func init() {
	utilruntime.Must(v1.AddToScheme(scheme))
	utilruntime.Must(authv1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, v1.SchemeGroupVersion)
}

// restAPI is the API by HTTP. Pods wait for their tokens, so these are asked for without delay; Kubernetes Events are a
// courtesy and must not drown the API.
type restAPI struct{ prompt, patient rest.Interface }

// NewAPI connects to the API as config says; its rate limit is not heeded.
func NewAPI(config *rest.Config) (API, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	config.APIPath, config.GroupVersion = "/api", &v1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	config.QPS = -1
	prompt, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100
	patient, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return restAPI{prompt, patient}, nil
}

func (a restAPI) CreateNode(ctx context.Context, node *v1.Node) error {
	return a.prompt.Post().Resource("nodes").Body(node).Do(ctx).Error()
}

func (a restAPI) CreateToken(ctx context.Context, namespace, account string, req *authv1.TokenRequest) (*authv1.TokenRequest, error) {
	out := &authv1.TokenRequest{}
	err := a.prompt.Post().Namespace(namespace).Resource("serviceaccounts").Name(account).SubResource("token").Body(req).Do(ctx).Into(out)
	return out, err
}

func (a restAPI) Events() record.EventSink { return eventSink{a.patient} }

// eventSink writes events. The recorder, which calls it, has no context to give.
type eventSink struct{ api rest.Interface }

func (s eventSink) Create(e *v1.Event) (*v1.Event, error) {
	return s.do(s.api.Post().Namespace(e.Namespace).Body(e))
}

func (s eventSink) Update(e *v1.Event) (*v1.Event, error) {
	return s.do(s.api.Put().Namespace(e.Namespace).Name(e.Name).Body(e))
}

func (s eventSink) Patch(e *v1.Event, patch []byte) (*v1.Event, error) {
	return s.do(s.api.Patch(types.StrategicMergePatchType).Namespace(e.Namespace).Name(e.Name).Body(patch))
}

func (s eventSink) do(r *rest.Request) (*v1.Event, error) {
	out := &v1.Event{}
	err := r.Resource("events").Do(context.Background()).Into(out)
	return out, err
}

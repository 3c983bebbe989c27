package loop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
)

// Headers that carry attribution to the gateway.
const (
	causeHeader  = "Orlog-Cause"
	reasonHeader = "Orlog-Reason"
	traceHeader  = "Traceparent"
)

// REST performs effects through the gateway, so that they pass the same admission as a person's writes.
type REST struct {
	config *rest.Config
	http   *http.Client

	mu      sync.Mutex
	clients map[schema.GroupVersion]*rest.RESTClient
}

// NewREST makes a performer that impersonates an identity. config is copied.
func NewREST(config *rest.Config, as Identity) (*REST, error) {
	c := rest.CopyConfig(config)
	c.Impersonate = rest.ImpersonationConfig{UserName: as.User, Groups: as.Groups}
	c.QPS = -1 // backoff and parallelism are the loop's business
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	c.UserAgent = "orlog/" + as.User
	h, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("rest config for %s: %w", as.User, err)
	}
	return &REST{config: c, http: h, clients: map[schema.GroupVersion]*rest.RESTClient{}}, nil
}

func (p *REST) client(gv schema.GroupVersion) (*rest.RESTClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[gv]; c != nil {
		return c, nil
	}
	cfg := rest.CopyConfig(p.config)
	cfg.GroupVersion, cfg.APIPath = &gv, "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	c, err := rest.RESTClientForConfigAndClient(cfg, p.http)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", gv, err)
	}
	p.clients[gv] = c
	return c, nil
}

// Perform carries out one effect. Deleting or patching what is gone, and creating in a namespace that is
// being deleted, count as done.
func (p *REST) Perform(ctx context.Context, e Effect, why events.Cause) (events.Sequence, error) {
	req, err := p.request(e)
	if err != nil {
		return 0, err
	}
	if why.Sequence != 0 {
		req.SetHeader(causeHeader, fmt.Sprintf("%d;%d", why.Sequence, why.Correlation))
	}
	if why.TraceParent != "" {
		req.SetHeader(traceHeader, why.TraceParent)
	}
	if e.Reason != "" {
		req.SetHeader(reasonHeader, e.Reason)
	}
	// Only the new metadata is of use: the object comes back through the projection.
	req.SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")
	result := req.Do(ctx)
	if err := result.Error(); err != nil { // unlike Raw's, with the gateway's own words and causes
		return 0, outcome(e, err)
	}
	body, err := result.Raw()
	if err != nil {
		return 0, outcome(e, err)
	}
	return sequenceIn(body), nil
}

func (p *REST) request(e Effect) (*rest.Request, error) {
	c, err := p.client(e.Resource.GroupVersion())
	if err != nil {
		return nil, err
	}
	var req *rest.Request
	switch e.Verb {
	case Create:
		req = c.Post().Body(e.Object)
	case Update:
		req = c.Put().Name(e.Key.Name).Body(e.Object)
	case UpdateStatus:
		req = c.Put().Name(e.Key.Name).SubResource("status").Body(e.Object)
	case Finalize:
		req = c.Put().Name(e.Key.Name).SubResource("finalize").Body(e.Object)
	case Patch:
		req = c.Patch(e.PatchType).Name(e.Key.Name).Body([]byte(e.Patch))
		if e.Subresource != "" {
			req = req.SubResource(e.Subresource)
		}
	case Delete:
		b, err := json.Marshal(deleteOptions(e))
		if err != nil {
			return nil, fmt.Errorf("delete options of %s: %w", e.Key, err)
		}
		req = c.Delete().Name(e.Key.Name).Body(b).SetHeader("Content-Type", "application/json")
	default:
		return nil, fmt.Errorf("effect %q on %s: %w: the gateway knows no such verb", e.Verb, e.Key, events.ErrInvalid)
	}
	if e.Key.Namespace != "" {
		req = req.Namespace(e.Key.Namespace)
	}
	return req.Resource(e.Resource.Resource), nil
}

func deleteOptions(e Effect) *metav1.DeleteOptions {
	o := &metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, GracePeriodSeconds: e.GracePeriod}
	if e.Propagation != "" {
		o.PropagationPolicy = &e.Propagation
	}
	if e.UID != "" || e.ResourceVersion != "" {
		o.Preconditions = &metav1.Preconditions{}
		if e.UID != "" {
			o.Preconditions.UID = &e.UID
		}
		if e.ResourceVersion != "" {
			o.Preconditions.ResourceVersion = &e.ResourceVersion
		}
	}
	return o
}

// outcome sorts the gateway's errors into the few kinds that the loop acts on; nil: as good as done.
func outcome(e Effect, err error) error {
	switch {
	case apierrors.IsNotFound(err) && e.Verb != Create:
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", events.ErrConflict, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return fmt.Errorf("%w: %w", events.ErrInvalid, err)
	case errors.Is(err, context.Canceled):
		return err
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown:
		return fmt.Errorf("%w: %w", events.ErrUnavailable, err) // no answer of the gateway's
	}
	return err
}

// sequenceIn finds the resourceVersion in an answer, 0 where it holds none (a Status).
func sequenceIn(body []byte) events.Sequence {
	var o struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if !bytes.HasPrefix(body, []byte("{")) || json.Unmarshal(body, &o) != nil {
		return 0
	}
	seq, err := events.ParseSequence(o.Metadata.ResourceVersion)
	if err != nil {
		return 0
	}
	return seq
}

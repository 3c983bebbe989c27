package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// target is one object that the user named, whether it still exists or not.
type target struct {
	events.Key
	// guessed: the cluster does not know the kind (its definition is gone), so the name may be that of a
	// cluster-scoped object.
	guessed bool
}

func (t target) query() url.Values {
	q := url.Values{"group": {t.Group}, "resource": {t.Resource}, "name": {t.Name}}
	if t.Namespace != "" {
		q.Set("namespace", t.Namespace)
	}
	return q
}

// object reads KIND/NAME, KIND NAME or, as history, why and tail print it, GROUP/RESOURCE/NAMESPACE/NAME.
func (a *apiClient) object(args []string) (target, error) {
	kind, name, ok := "", "", false
	switch len(args) {
	case 1:
		if strings.Count(args[0], "/") == 3 {
			key, err := events.ParseKey(args[0])
			return target{Key: key}, err
		}
		kind, name, ok = strings.Cut(args[0], "/")
	case 2:
		kind, name, ok = args[0], args[1], true
	}
	if !ok || kind == "" || name == "" || strings.Contains(name, "/") {
		return target{}, fmt.Errorf("name one object as KIND/NAME, for example deployment/web")
	}
	namespace, _, err := a.factory.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return target{}, err
	}
	gvr, namespaced, err := a.resource(kind)
	if meta.IsNoMatchError(err) {
		// A kind whose definition was deleted: its objects' history is still there.
		if resource, group, full := strings.Cut(strings.ToLower(kind), "."); full {
			return target{Key: events.Key{Group: group, Resource: resource, Namespace: namespace, Name: name}, guessed: true}, nil
		}
		return target{}, fmt.Errorf("the cluster has no kind %q: orlog api-resources lists the kinds; one whose definition is gone is named RESOURCE.GROUP/NAME, for example widgets.example.com/%s", kind, name)
	}
	if err != nil {
		return target{}, err
	}
	key := events.Key{Group: gvr.Group, Resource: gvr.Resource, Name: name}
	if namespaced {
		key.Namespace = namespace
	}
	return target{Key: key}, nil
}

// resource finds what a person calls a kind (deploy, deployments.apps, Deployment) among the cluster's
// resources, and whether its objects live in namespaces. A meta.NoMatch error where there is none.
func (a *apiClient) resource(kind string) (schema.GroupVersionResource, bool, error) {
	mapper, err := a.factory.ToRESTMapper()
	if err != nil {
		return schema.GroupVersionResource{}, false, err
	}
	gvr, gr := schema.ParseResourceArg(strings.ToLower(kind))
	full := schema.GroupVersionResource{}
	if gvr != nil {
		full, err = mapper.ResourceFor(*gvr)
	}
	if gvr == nil || meta.IsNoMatchError(err) { // deployments.v1.apps, else widgets.example.com
		full, err = mapper.ResourceFor(gr.WithVersion(""))
	}
	if err != nil {
		return full, false, err
	}
	gvk, err := mapper.KindFor(full)
	if err != nil {
		return full, false, err
	}
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return full, false, err
	}
	return full, mapping.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

// objectAt reads an object as it was at a moment (a sequence or a time; "" for now), decoded by change.Decode.
// nil where there was none.
func (a *apiClient) objectAt(ctx context.Context, key events.Key, moment string) (map[string]any, error) {
	gvr, _, err := a.resource(key.GroupResource())
	if meta.IsNoMatchError(err) {
		return nil, nil // its kind is gone, and it with it
	}
	if err != nil {
		return nil, err
	}
	path := "/apis/" + gvr.Group + "/" + gvr.Version
	if gvr.Group == "" {
		path = "/api/" + gvr.Version
	}
	if key.Namespace != "" {
		path += "/namespaces/" + key.Namespace
	}
	path += "/" + gvr.Resource + "/" + key.Name
	if moment != "" {
		path = "/at/" + moment + path
	}
	body, err := a.get(ctx, path, nil)
	if statusCode(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o, err := change.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// ask puts a question about an object. Where its scope was guessed, and there is none in the namespace, the
// cluster-scoped one is meant.
func (a *apiClient) ask(ctx context.Context, endpoint string, t *target, further url.Values, to any) error {
	q := t.query()
	for k, v := range further {
		q[k] = v
	}
	err := a.getJSON(ctx, endpoint, q, to)
	if statusCode(err) == http.StatusNotFound && t.guessed && t.Namespace != "" {
		wide := *t
		wide.Namespace = ""
		q.Del("namespace")
		if a.getJSON(ctx, endpoint, q, to) == nil {
			*t = wide
			return nil
		}
	}
	return err
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// apiClient reaches the gateway's own endpoints (/orlog/v1/...), with the user's kubeconfig.
type apiClient struct {
	factory cmdutil.Factory
}

// get opens one of the gateway's endpoints; the caller closes the body. A refusal becomes the error that
// the gateway wrote.
func (a *apiClient) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	cfg, err := a.factory.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerURL(cfg.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + path
	base.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %s, and its explanation could not be read: %w", path, res.Status, err)
	}
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return nil, fmt.Errorf("%s", status.Message)
	}
	return nil, fmt.Errorf("%s: %s: %s", path, res.Status, strings.TrimSpace(string(body)))
}

func (a *apiClient) getJSON(ctx context.Context, path string, query url.Values, to any) error {
	body, err := a.get(ctx, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(to); err != nil {
		return fmt.Errorf("%s: unreadable answer: %w", path, err)
	}
	return nil
}

// object turns KIND/NAME or KIND NAME into the query that names one object, whether it still exists or not.
func (a *apiClient) object(args []string) (url.Values, error) {
	kind, name, ok := "", "", false
	switch len(args) {
	case 1:
		kind, name, ok = strings.Cut(args[0], "/")
	case 2:
		kind, name, ok = args[0], args[1], true
	}
	if !ok || kind == "" || name == "" {
		return nil, fmt.Errorf("name one object as KIND/NAME, for example deployment/web")
	}
	mapper, err := a.factory.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	gvr, gr := schema.ParseResourceArg(strings.ToLower(kind))
	if gvr == nil {
		v := gr.WithVersion("")
		gvr = &v
	}
	full, err := mapper.ResourceFor(*gvr)
	if err != nil {
		return nil, fmt.Errorf("kind %q: %w (orlog api-resources lists the kinds)", kind, err)
	}
	gvk, err := mapper.KindFor(full)
	if err != nil {
		return nil, err
	}
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	q := url.Values{"group": {full.Group}, "resource": {full.Resource}, "name": {name}}
	if mapping.Scope.Name() == "namespace" {
		ns, _, err := a.factory.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return nil, err
		}
		q.Set("namespace", ns)
	}
	return q, nil
}

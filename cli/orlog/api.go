package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// apiClient reaches the gateway's own endpoints (/orlog/v1/...) and its past (/at/...), with the user's
// kubeconfig.
type apiClient struct {
	factory cmdutil.Factory
	now     func() time.Time

	once   sync.Once
	client *http.Client
	base   *url.URL
	err    error
}

// connect makes the client, once: its connections are used again.
func (a *apiClient) connect() (*http.Client, url.URL, error) {
	a.once.Do(func() {
		cfg, err := a.factory.ToRESTConfig()
		if err != nil {
			a.err = err
			return
		}
		if a.client, a.err = rest.HTTPClientFor(cfg); a.err != nil {
			return
		}
		a.base, _, a.err = rest.DefaultServerURL(cfg.Host, "", schema.GroupVersion{}, true)
	})
	if a.err != nil {
		return nil, url.URL{}, a.err
	}
	return a.client, *a.base, nil
}

// get opens a path of the gateway's; the caller closes the body. A refusal is an API error
// (apierrors.APIStatus) with what the gateway wrote; a connection that failed a *url.Error.
func (a *apiClient) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	client, base, err := a.connect()
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
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	if res.StatusCode == http.StatusNotFound && strings.HasPrefix(path, "/orlog/") {
		return nil, fmt.Errorf("%s: the server does not know this: is it Orlog? kubectl's commands work with any Kubernetes, history, why, tail and --at only with Orlog", base.Host)
	}
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: int32(res.StatusCode),
		Message: fmt.Sprintf("%s: %s: %s", path, res.Status, strings.TrimSpace(string(body)))}}
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

// position is where the log stands: sequence what the gateway has read, last what the log holds.
type position struct {
	Sequence uint64 `json:"sequence"`
	Last     uint64 `json:"last"`
}

// position asks where the log stands, now or (moment: a sequence or a time) then.
func (a *apiClient) position(ctx context.Context, moment string) (position, error) {
	q := url.Values{}
	if moment != "" {
		q.Set("at", moment)
	}
	var p position
	return p, a.getJSON(ctx, "/orlog/v1/position", q, &p)
}

// statusCode is the HTTP status of a refusal, 0 for any other error.
func statusCode(err error) int {
	var s apierrors.APIStatus
	if errors.As(err, &s) {
		return int(s.Status().Code)
	}
	return 0
}

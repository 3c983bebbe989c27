package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// answers are an API server's, in process: one a request, the last one for ever; nil is a token.
type answers struct {
	list []*apierrors.StatusError
	n    int
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := a.list[min(a.n, len(a.list)-1)]
	a.n++
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	var body any = &authv1.TokenRequest{TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}, Status: authv1.TokenRequestStatus{Token: "t"}}
	if answer != nil {
		answer.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.WriteHeader(int(answer.ErrStatus.Code))
		body = answer.ErrStatus
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		return nil, err
	}
	return w.Result(), r.Body.Close()
}

// TestTokenWaitsForTheGateway: the agent may know of the binding before the gateway does.
func TestTokenWaitsForTheGateway(t *testing.T) {
	accounts := schema.GroupResource{Resource: "serviceaccounts"}
	elsewhere := apierrors.NewForbidden(accounts, "default", context.DeadlineExceeded)
	for name, c := range map[string]struct {
		answers  []*apierrors.StatusError
		requests int
		err      string
	}{
		"at once":       {[]*apierrors.StatusError{nil}, 1, ""},
		"a little late": {[]*apierrors.StatusError{elsewhere, apierrors.NewNotFound(accounts, "default"), nil}, 3, ""},
		"never":         {[]*apierrors.StatusError{elsewhere}, catchUp.Steps, "failed to fetch token: serviceaccounts \"default\" is forbidden"},
		"refused":       {[]*apierrors.StatusError{apierrors.NewBadRequest("audience")}, 1, "failed to fetch token: audience"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &answers{list: c.answers}
				client, err := NewAPI(&rest.Config{Host: "http://api", Transport: api})
				if err != nil {
					t.Fatal(err)
				}
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u"}, Spec: v1.PodSpec{ServiceAccountName: "default"}}
				began := time.Now()
				token, err := sources{&Agent{o: Options{API: client}}}.Token(t.Context(), pod, "", time.Hour)
				if c.err == "" && (err != nil || token != "t") || c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)) {
					t.Errorf("%q, %v", token, err)
				}
				if api.n != c.requests || time.Since(began) > 2*time.Second {
					t.Errorf("%d requests in %s, want %d", api.n, time.Since(began), c.requests)
				}
			})
		})
	}
}

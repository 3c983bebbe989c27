package agent

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// TestAPIRequests: where the agent's requests go, in which form, and that answers and refusals come back.
func TestAPIRequests(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprintf("%s %s %s", r.Method, r.URL, r.Header.Get("Content-Type")))
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/api/v1/nodes":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"AlreadyExists","code":409}`)
		case r.Method == http.MethodPost && r.URL.Path == "/api/v1/namespaces/shop/serviceaccounts/builder/token":
			fmt.Fprint(w, `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","status":{"token":"secret"}}`)
		default:
			fmt.Fprint(w, `{"kind":"Event","apiVersion":"v1","metadata":{"name":"e","namespace":"shop"},"count":3}`)
		}
	}))
	defer server.Close()
	api, err := NewAPI(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.CreateNode(t.Context(), &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a node that is there: %v", err)
	}
	if out, err := api.CreateToken(t.Context(), "shop", "builder", &authv1.TokenRequest{}); err != nil || out.Status.Token != "secret" {
		t.Errorf("token: %v, %v", out, err)
	}
	e := &v1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "shop"}}
	for name, send := range map[string]func() (*v1.Event, error){
		"create": func() (*v1.Event, error) { return api.Events().Create(e) },
		"update": func() (*v1.Event, error) { return api.Events().Update(e) },
		"patch":  func() (*v1.Event, error) { return api.Events().Patch(e, []byte(`{"count":3}`)) },
	} {
		if out, err := send(); err != nil || out.Count != 3 {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	slices.Sort(seen)
	want := []string{
		"PATCH /api/v1/namespaces/shop/events/e application/strategic-merge-patch+json",
		"POST /api/v1/namespaces/shop/events application/vnd.kubernetes.protobuf",
		"POST /api/v1/namespaces/shop/serviceaccounts/builder/token application/vnd.kubernetes.protobuf",
		"POST /api/v1/nodes application/vnd.kubernetes.protobuf",
		"PUT /api/v1/namespaces/shop/events/e application/vnd.kubernetes.protobuf",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("requests:\n%q\nwant\n%q", seen, want)
	}
}

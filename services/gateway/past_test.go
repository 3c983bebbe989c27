package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
)

func testLeases(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	before := c.last(t)
	leases := client.CoordinationV1().Leases("kube-node-lease")
	lease, err := leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		now := metav1.NowMicro()
		lease.Spec.RenewTime = &now
		if lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if after := c.last(t); after != before {
		t.Errorf("leases appended %d events to the log", after-before)
	}
	if code, body := getAs(t, c.admin(t), fmt.Sprintf("/at/%d/apis/coordination.k8s.io/v1/leases", before)); code != http.StatusBadRequest {
		t.Errorf("leases of the past: %d %s", code, body)
	}
}

func at(config *rest.Config, moment string) *rest.Config {
	past := rest.CopyConfig(config)
	past.Host += "/at/" + moment
	return past
}

func testPast(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	maps := client.CoreV1().ConfigMaps("default")
	made, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "moving"}, Data: map[string]string{"at": "first"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := c.last(t)
	made.Data["at"] = "second"
	if _, err = maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	second := time.Now()
	if err := maps.Delete(ctx, "moving", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for moment, want := range map[string]string{first.String(): "first", second.Format(time.RFC3339Nano): "second"} {
		past := clientOf(t, at(c.admin(t), moment))
		got, err := past.CoreV1().ConfigMaps("default").Get(ctx, "moving", metav1.GetOptions{})
		if err != nil || got.Data["at"] != want {
			t.Errorf("at %s: %v, %v", moment, got.Data, err)
		}
		list, err := past.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=moving"})
		if err != nil || len(list.Items) != 1 {
			t.Errorf("at %s: list of %d, %v", moment, len(list.Items), err)
		}
		if _, err := past.Discovery().ServerGroups(); err != nil {
			t.Errorf("at %s: discovery: %v", moment, err)
		}
		if err := past.CoreV1().ConfigMaps("default").Delete(ctx, "moving", metav1.DeleteOptions{}); !apierrors.IsMethodNotSupported(err) {
			t.Errorf("at %s: delete: %v", moment, err)
		}
	}
	for path, want := range map[string]int{
		"/at/%d/api/v1/namespaces/default/pods/p/log":         http.StatusMethodNotAllowed,
		"/at/%d/api/v1/namespaces/default/pods/p/exec":        http.StatusMethodNotAllowed,
		"/at/%d/api/v1/namespaces/default/pods/p/attach":      http.StatusMethodNotAllowed,
		"/at/%d/api/v1/namespaces/default/pods/p/portforward": http.StatusMethodNotAllowed,
		"/at/%d/api/v1/namespaces/default/services/s/proxy/":  http.StatusMethodNotAllowed,
		"/at/%d/api/v1/nodes/n/proxy/pods":                    http.StatusMethodNotAllowed,
		"/at/%d/api/v1/namespaces/default/configmaps/moving":  http.StatusOK,
		"/at/%d/at/1/api/v1/namespaces":                       http.StatusBadRequest,
		"/at/9%d/api/v1/namespaces":                           http.StatusGatewayTimeout,
		"/at/9%d/apis/apps/v1":                                http.StatusOK,
		"/at/x%d/api/v1/namespaces":                           http.StatusBadRequest,
		"/at/2999-01-01T00:00:%d0Z/api/v1/namespaces":         http.StatusBadRequest,
		"/at/2999-01-01/api/v1/namespaces?x=%d":               http.StatusGatewayTimeout,
		"/at/0/api/v1/namespaces?x=%d":                        http.StatusBadRequest,
		"/at/1999-01-01/api/v1/namespaces?x=%d":               http.StatusBadRequest,
	} {
		if code, body := getAs(t, c.admin(t), fmt.Sprintf(path, first)); code != want {
			t.Errorf("GET %s: %d, want %d: %s", path, code, want, body)
		}
	}
}

type answer struct {
	Entries []entry `json:"entries"`
	Chain   []entry `json:"chain"`
}

func testHistory(t *testing.T, c *cluster, _ *kubernetes.Clientset) {
	admin := c.admin(t)
	const path = "/apis/apps/v1/namespaces/default/deployments"
	const spec = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"shop"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},
"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"one"}]}}}}`
	if code, body := do(t, admin, http.MethodPost, path, spec, HeaderReason, "launch day"); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	as := rest.CopyConfig(admin)
	as.Impersonate = rest.ImpersonationConfig{UserName: "alice", Groups: []string{MastersGroup}}
	// A person cannot blame another event, whatever they may do otherwise.
	if code, body := do(t, as, http.MethodPatch, path+"/shop", `{"spec":{"replicas":4}}`, "Content-Type", "application/merge-patch+json", HeaderCause, "1"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	if code, body := do(t, admin, http.MethodDelete, path+"/shop?propagationPolicy=Background", ""); code != http.StatusOK {
		t.Fatal(code, body)
	}
	got := decode[answer](t, c.get(t, "/orlog/v1/history?resource=deployments.apps&namespace=default&name=shop")).Entries
	if len(got) != 3 {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	if e := got[0]; e.Actor != "admin" || e.Verb != "created" || e.Reason != "launch day" || e.Type != "io.orlog.deployment.created" {
		t.Errorf("first: %+v", e)
	}
	if e := got[1]; e.Actor != "alice" || e.OnBehalfOf != "admin" || e.Cause != 0 || len(e.Changes) != 1 ||
		e.Changes[0].Path != "/spec/replicas" || string(e.Changes[0].From) != "1" || string(e.Changes[0].To) != "4" {
		t.Errorf("second: %+v", e)
	}
	if e := got[2]; e.Verb != "deleted" || e.Time.IsZero() {
		t.Errorf("third: %+v", e)
	}
	newest := decode[answer](t, c.get(t, "/orlog/v1/history?resource=deployments.apps&namespace=default&name=shop&limit=1")).Entries
	if len(newest) != 1 || newest[0].Sequence != got[2].Sequence {
		t.Errorf("limit: %+v", newest)
	}
	for _, path := range []string{"history?resource=deployments", "history?name=x", "history?resource=a&name=b&namepsace=c", "history?resource=a&name=b&limit=0"} {
		if code, body := getAs(t, admin, "/orlog/v1/"+path); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := getAs(t, admin, "/orlog/v1/history?resource=pods&namespace=default&name=nobody"); code != http.StatusNotFound {
		t.Errorf("unknown object: %d", code)
	}
}

func testWhy(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	made, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "reason"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	controller := c.LoopbackConfig()
	controller.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:replicaset-controller",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"serviceAccountName":"robot","containers":[{"name":"c","image":"one"}]}}`
	if code, body := do(t, controller, http.MethodPost, "/api/v1/namespaces/default/pods", pod, HeaderCause, made.ResourceVersion+";1", HeaderReason, `{"wanted":1}`); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	chain := decode[answer](t, c.get(t, "/orlog/v1/why?resource=pods&namespace=default&name=p")).Chain
	if len(chain) != 2 {
		t.Fatalf("chain: %+v", chain)
	}
	if e := chain[0]; e.Cause.String() != made.ResourceVersion || e.Correlation != 1 || e.OnBehalfOf != "" || !strings.HasSuffix(e.Actor, "replicaset-controller") || e.Reason != `{"wanted":1}` {
		t.Errorf("effect: %+v", e)
	}
	if e := chain[1]; e.Subject != "core/configmaps/default/reason" || e.Actor != "admin" {
		t.Errorf("cause: %+v", e)
	}
	// A report that names no cause is about the newest intent.
	if code, body := do(t, c.admin(t), http.MethodPatch, "/api/v1/namespaces/default/pods/p/status", `{"status":{"message":"hm"}}`, "Content-Type", "application/merge-patch+json"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	chain = decode[answer](t, c.get(t, "/orlog/v1/why?resource=pods&namespace=default&name=p")).Chain
	if len(chain) != 3 || chain[0].Class != events.Observed || chain[1].Verb != "created" {
		t.Errorf("chain of a report: %+v", chain)
	}
	if code, _ := do(t, controller, http.MethodGet, "/api/v1/namespaces/default/pods", "", HeaderCause, "nonsense"); code != http.StatusBadRequest {
		t.Errorf("a cause that is none: %d", code)
	}
}

func testHistoryRights(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	token, err := client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "robot", tokenRequest(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	robot := rest.AnonymousClientConfig(c.admin(t)) // may view the namespace, no secrets
	robot.BearerToken = token.Status.Token
	if _, err := client.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"history?resource=configmaps&namespace=default&name=reason": http.StatusOK,
		"why?resource=pods&namespace=default&name=p":                http.StatusOK,
		"position":                               http.StatusOK,
		"events?resource=pods&namespace=default": http.StatusOK,
		"history?resource=secrets&namespace=default&name=s":        http.StatusForbidden,
		"history?resource=configmaps&namespace=kube-system&name=x": http.StatusForbidden,
		"events?resource=pods":                                     http.StatusForbidden,
		"events":                                                   http.StatusForbidden,
		"digest":                                                   http.StatusForbidden,
	} {
		if code, body := getAs(t, robot, "/orlog/v1/"+path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	if code, _ := do(t, robot, http.MethodPost, "/orlog/v1/history", ""); code != http.StatusForbidden {
		t.Errorf("POST: %d", code)
	}
	if code, _ := do(t, rest.AnonymousClientConfig(c.admin(t)), http.MethodGet, "/orlog/v1/position", ""); code != http.StatusUnauthorized {
		t.Errorf("anonymous: %d", code)
	}
}

func testStream(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	all := strings.Split(strings.TrimSpace(c.get(t, "/orlog/v1/events?resource=deployments.apps&name=shop")), "\n")
	if len(all) != 3 || !strings.Contains(all[0], `"type":"io.orlog.deployment.created"`) || !strings.Contains(all[0], `"specversion":"1.0"`) {
		t.Fatalf("stream of shop: %q", all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	admin := c.admin(t)
	httpClient, err := rest.HTTPClientFor(admin)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin.Host+"/orlog/v1/events?follow=true&resource=configmaps", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "streamed"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"subject":"core/configmaps/default/streamed"`) {
		t.Errorf("followed: %s, %v", lines.Text(), lines.Err())
	}
}

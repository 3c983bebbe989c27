package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestGateway drives one gateway with client-go, in the order of a cluster's day.
func TestGateway(t *testing.T) {
	c := newDurableCluster(t)
	client := clientOf(t, c.admin(t))
	for _, step := range []struct {
		name string
		run  func(*testing.T, *cluster, *kubernetes.Clientset)
	}{
		{"system namespaces, service and priority classes", testBootstrap},
		{"create, patch, watch and delete", testObjects},
		{"server-side apply", testApply},
		{"custom resources", testCustomResources},
		{"service accounts", testTokens},
		{"refusals append nothing", testRefusals},
		{"admission policies", testPolicies},
		{"leases stay out of the log", testLeases},
		{"the past", testPast},
		{"attribution and history", testHistory},
		{"causes", testWhy},
		{"who may read history", testHistoryRights},
		{"event stream", testStream},
		{"nodes, exec and port-forward", testNodes},
		{"built-in roles", testRoles},
		{"certificates", testCertificates},
		{"revoked kubeconfigs", testAdminRevoked},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, c, client) })
	}
}

func testBootstrap(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "kubernetes service", func() error {
		svc, err := client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if svc.Spec.ClusterIP != "10.96.0.1" {
			return fmt.Errorf("cluster IP %s", svc.Spec.ClusterIP)
		}
		_, err = client.CoreV1().Endpoints("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		return err
	})
	if _, err := client.SchedulingV1().PriorityClasses().Get(ctx, "system-node-critical", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	v, err := client.Discovery().ServerVersion()
	if err != nil || !strings.HasPrefix(v.GitVersion, KubernetesVersion) || v.Major != "1" || v.Minor != "36" {
		t.Errorf("version %+v, %v", v, err)
	}
	if code, _ := do(t, rest.AnonymousClientConfig(c.admin(t)), http.MethodGet, "/readyz", ""); code != http.StatusOK {
		t.Errorf("anonymous /readyz: %d", code)
	}
	if code, _ := do(t, rest.AnonymousClientConfig(c.admin(t)), http.MethodGet, "/api", ""); code != http.StatusUnauthorized {
		t.Errorf("anonymous /api: %d", code)
	}
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "demo"}}}}}}
}

func testObjects(t *testing.T, _ *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	deployments := client.AppsV1().Deployments("default")
	list, err := deployments.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := deployments.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := deployments.Create(ctx, deployment("web", 2), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Spec.Strategy.RollingUpdate == nil {
		t.Error("defaults are missing")
	}
	patched, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{})
	if err != nil || *patched.Spec.Replicas != 3 || patched.Generation != 2 {
		t.Fatalf("patched: %+v, %v", patched, err)
	}
	made.Spec.Replicas = new(int32)
	if _, err := deployments.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v", err)
	}
	if err := deployments.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted} {
		if e := <-w.ResultChan(); e.Type != want {
			t.Errorf("watch: %s, want %s", e.Type, want)
		}
	}
	if _, err := deployments.Get(ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted, yet: %v", err)
	}
}

func testApply(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	maps := client.CoreV1().ConfigMaps("default")
	force := true
	apply := func(manager, body string) error {
		_, err := maps.Patch(ctx, "settings", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager})
		return err
	}
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"a":"1"}}`
	if err := apply("one", body); err != nil {
		t.Fatal(err)
	}
	before := c.last(t)
	if err := apply("one", body); err != nil || c.last(t) != before {
		t.Errorf("applying the same again: %v, appended %d", err, c.last(t)-before)
	}
	if err := apply("two", strings.Replace(body, `"1"`, `"2"`, 1)); !apierrors.IsConflict(err) {
		t.Errorf("another manager's field: %v", err)
	}
	if _, err := maps.Patch(ctx, "settings", types.ApplyPatchType, []byte(strings.Replace(body, `"1"`, `"2"`, 1)),
		metav1.PatchOptions{FieldManager: "two", Force: &force}); err != nil {
		t.Error(err)
	}
}

const widgets = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.demo.orlog.io"},
"spec":{"group":"demo.orlog.io","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget"},
"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object",
"properties":{"spec":{"type":"object","properties":{"size":{"type":"integer","maximum":10}}},"status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}]}}`

func testCustomResources(t *testing.T, c *cluster, _ *kubernetes.Clientset) {
	admin := c.admin(t)
	if code, body := do(t, admin, http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", widgets); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	const path = "/apis/demo.orlog.io/v1/namespaces/default/widgets"
	widget := `{"apiVersion":"demo.orlog.io/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":%d}}`
	eventually(t, "widgets", func() error {
		if code, body := do(t, admin, http.MethodPost, path, fmt.Sprintf(widget, 3)); code != http.StatusCreated {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	if code, body := do(t, admin, http.MethodPost, path, fmt.Sprintf(widget, 11)); code != http.StatusUnprocessableEntity {
		t.Errorf("schema: %d %s", code, body)
	}
	before := c.last(t)
	if code, body := do(t, admin, http.MethodPatch, path+"/w", `{"spec":{"size":4}}`, "Content-Type", "application/merge-patch+json"); code != http.StatusOK {
		t.Errorf("patch: %d %s", code, body)
	}
	if code, body := getAs(t, admin, fmt.Sprintf("/at/%d%s/w", before, path)); code != http.StatusOK || !strings.Contains(body, `"size":3`) {
		t.Errorf("before the patch: %d %s", code, body)
	}
}

func testTokens(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	accounts := client.CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(ctx, "robot", &authnv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(c.admin(t))
	config.BearerToken = token.Status.Token
	robot := clientOf(t, config)
	me, err := robot.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authnv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || me.Status.UserInfo.Username != "system:serviceaccount:default:robot" {
		t.Fatalf("robot is %+v, %v", me, err)
	}
	if _, err := robot.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("robot lists config maps: %v", err)
	}
	reader := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""},
		Resources: []string{"configmaps", "pods"}, Verbs: []string{"get", "list", "watch"}}}}
	if _, err := client.RbacV1().Roles("default").Create(ctx, reader, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "robot"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "robot", Namespace: "default"}}}
	if _, err := client.RbacV1().RoleBindings("default").Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "robot may read", func() error {
		_, err := robot.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		return err
	})
	if _, body := getAs(t, c.admin(t), "/.well-known/openid-configuration"); !strings.Contains(body, `"issuer":"https://kubernetes.default.svc.cluster.local"`) {
		t.Errorf("discovery: %s", body)
	}
}

func testRefusals(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	stranger := clientOf(t, c.config(t, "stranger"))
	before := c.last(t)
	bad := deployment("bad", 1)
	bad.Spec.Template.Labels = map[string]string{"app": "other"}
	if _, err := client.AppsV1().Deployments("default").Create(ctx, bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("selector that does not match: %v", err)
	}
	if _, err := client.AppsV1().Deployments("nowhere").Create(ctx, deployment("web", 1), metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace that is not there: %v", err)
	}
	if _, err := stranger.AppsV1().Deployments("default").Create(ctx, deployment("web", 1), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("no permission: %v", err)
	}
	if code, _ := do(t, c.admin(t), http.MethodPost, "/api/v1/namespaces/default/configmaps", `{"apiVersion":"v1","kind":"ConfigMap"`); code != http.StatusBadRequest {
		t.Errorf("broken JSON: %d", code)
	}
	if _, err := client.AppsV1().Deployments("default").Create(ctx, deployment("web", 1), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Errorf("dry run: %v", err)
	}
	if after := c.last(t); after != before {
		t.Errorf("refused requests appended %d events", after-before)
	}
}

const policy = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"no-forbidden"},
"spec":{"failurePolicy":"Fail","matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}]},
"validations":[{"expression":"object.metadata.name != 'forbidden'","message":"that name is not allowed"}]}}`

func testPolicies(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	admin := c.admin(t)
	if code, body := do(t, admin, http.MethodPost, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", policy); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	if code, body := do(t, admin, http.MethodPost, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
		`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"no-forbidden"},"spec":{"policyName":"no-forbidden","validationActions":["Deny"]}}`); code != http.StatusCreated {
		t.Fatal(code, body)
	}
	eventually(t, "the policy", func() error {
		_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "forbidden"}},
			metav1.CreateOptions{DryRun: []string{"All"}})
		if err == nil || !strings.Contains(err.Error(), "that name is not allowed") {
			return fmt.Errorf("not refused: %v", err)
		}
		return nil
	})
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

func testRoles(t *testing.T, _ *cluster, client *kubernetes.Clientset) {
	eventually(t, "aggregated roles", func() error {
		view, err := client.RbacV1().ClusterRoles().Get(t.Context(), "view", metav1.GetOptions{})
		if err == nil && len(view.Rules) == 0 {
			err = fmt.Errorf("view is empty")
		}
		return err
	})
}

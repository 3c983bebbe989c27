package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/orlog-io/orlog/events/memlog"
)

func tokenRequest() *authnv1.TokenRequest { return &authnv1.TokenRequest{} }

// testNodes reads a pod's log and the agent's API through the tunnel.
func testNodes(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	ctx := t.Context()
	listener, err := c.tunnel.Listen("n1")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(serveAgent)}
	go server.Serve(listener)
	defer server.Close()
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.CoreV1().Pods("default").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stream, err := client.CoreV1().Pods("default").GetLogs("p", &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if b, err := io.ReadAll(stream); err != nil || string(b) != "agent says /containerLogs/default/p/c" {
		t.Errorf("log: %q, %v", b, err)
	}
	for _, node := range []string{"n1", "n1:10250"} {
		if code, body := getAs(t, c.admin(t), "/api/v1/nodes/"+node+"/proxy/healthz"); code != http.StatusOK || body != "agent says /healthz" {
			t.Errorf("proxy to %s: %d %s", node, code, body)
		}
	}
	if code, _ := getAs(t, c.admin(t), "/api/v1/nodes/n1:22/proxy/"); code != http.StatusBadRequest {
		t.Errorf("another port of the node: %d", code)
	}
	if code, body := getAs(t, c.admin(t), "/api/v1/nodes/n2/proxy/healthz"); code < 500 || !strings.Contains(body, "n2") {
		t.Errorf("a node that is not connected: %d %s", code, body)
	}
	testExec(t, c, client)
	testLogsOverWebSocket(t, c.admin(t), "/api/v1/namespaces/default/pods/p/log?container=c", "agent says /containerLogs/default/p/c")
	// A node's agent may read and report on itself only.
	agent := clientOf(t, c.config(t, NodeUserPrefix+"n1", NodesGroup))
	if _, err := agent.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := agent.CoreV1().Secrets("default").Get(ctx, "s", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node reads a secret that none of its pods uses: %v", err)
	}
	if _, err := agent.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node registers another: %v", err)
	}
}

func service(name string, port int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort,
		Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}}}
}

// TestRestart stops a gateway and starts it again on the same log: addresses and ports are still taken, and
// objects are still there.
func TestRestart(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	create := func(s *corev1.Service) (*corev1.Service, error) {
		return clientOf(t, c.admin(t)).CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
	}
	first, err := create(service("first", 30080))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create(service("clash", 30080)); !apierrors.IsInvalid(err) {
		t.Errorf("the same port twice: %v", err)
	}
	second, err := create(service("second", 0))
	if err != nil {
		t.Fatal(err)
	}
	before := c.CABundle()
	c.stop()
	c.start(t)
	if string(c.CABundle()) != string(before) {
		t.Error("the restarted gateway has another authority")
	}
	for _, want := range []*corev1.Service{first, second} {
		got, err := clientOf(t, c.admin(t)).CoreV1().Services("default").Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil || got.Spec.ClusterIP != want.Spec.ClusterIP || got.ResourceVersion != want.ResourceVersion {
			t.Errorf("after the restart %s is %+v, %v", want.Name, got, err)
		}
	}
	if _, err := create(service("clash", second.Spec.Ports[0].NodePort)); !apierrors.IsInvalid(err) {
		t.Errorf("the port of a service from before the restart: %v", err)
	}
	clash := service("clash", 0)
	clash.Spec.ClusterIP = first.Spec.ClusterIP
	if _, err := create(clash); !apierrors.IsInvalid(err) {
		t.Errorf("the address of a service from before the restart: %v", err)
	}
	client := clientOf(t, c.admin(t))
	if err := client.CoreV1().Services("default").Delete(ctx, "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	reused := service("third", 30080)
	reused.Spec.ClusterIP = first.Spec.ClusterIP
	eventually(t, "reuse", func() error {
		_, err := create(reused)
		return err
	})
}

// TestStopWhileStarting ends a gateway in the middle of its start-up hooks, which upstream answers with a
// fatal error. It comes last: hooks of upstream that ignore their context try on for a while.
func TestStopWhileStarting(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond} {
		c := &cluster{dir: t.TempDir(), log: memlog.New(), volatile: memlog.New()}
		c.launch(t)
		time.Sleep(after)
		c.stop()
	}
}

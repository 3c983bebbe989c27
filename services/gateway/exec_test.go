package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	agentportforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	agentcommand "k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// agent is a node's streaming API, with commands that repeat their input.
type agent struct{}

// ExecInContainer implements agentcommand.Executor.
func (agent) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan agentcommand.TerminalSize, _ time.Duration) error {
	fmt.Fprintf(out, "%s: ", strings.Join(cmd, " "))
	_, err := io.Copy(out, in)
	return err
}

// PortForward implements agentportforward.PortForwarder.
func (agent) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(stream, b); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "%s on %d", b, port)
	return err
}

func serveAgent(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	switch parts[1] {
	case "exec":
		o, err := agentcommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		agentcommand.ServeExec(w, r, agent{}, parts[3], "", parts[4], r.URL.Query()["command"], o, time.Minute, time.Minute, agentcommand.SupportedStreamingProtocols)
	case "portForward":
		o, err := agentportforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		agentportforward.ServePortForward(w, r, agent{}, parts[3], "", o, time.Minute, time.Minute, []string{"portforward.k8s.io"})
	default:
		fmt.Fprint(w, "agent says ", r.URL.Path)
	}
}

// testExec runs a command and forwards a port through the gateway and the tunnel, in both of kubectl's protocols.
func testExec(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	config := c.admin(t)
	pod := client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p")
	exec := pod.SubResource("exec").VersionedParams(&corev1.PodExecOptions{Command: []string{"say", "it"}, Stdin: true, Stdout: true}, scheme.ParameterCodec).URL()
	overSPDY, err1 := remotecommand.NewSPDYExecutor(config, http.MethodPost, exec)
	overWebSocket, err2 := remotecommand.NewWebSocketExecutor(config, http.MethodGet, exec.String())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for name, executor := range map[string]remotecommand.Executor{"SPDY": overSPDY, "WebSocket": overWebSocket} {
		var out bytes.Buffer
		if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out}); err != nil || out.String() != "say it: hello" {
			t.Errorf("exec over %s: %q, %v", name, out.String(), err)
		}
	}
	forwarded := client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("portforward").URL()
	testForward(t, config, forwarded)
}

func testForward(t *testing.T, config *rest.Config, to *url.URL) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, to)
	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	headers := http.Header{"Port": {"8080"}, "Requestid": {"0"}, "Streamtype": {"error"}}
	failures, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	failures.Close()
	headers.Set("Streamtype", "data")
	data, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(data, "hello"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(data); err != nil || string(b) != "hello on 8080" {
		t.Errorf("forwarded: %q, %v", b, err)
	}
}

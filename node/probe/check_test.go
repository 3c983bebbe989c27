package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func serverAt(t *testing.T, s *httptest.Server) (Place, int) {
	t.Helper()
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return Place{IP: "127.0.0.1", Container: &v1.Container{Ports: []v1.ContainerPort{{Name: "http", ContainerPort: int32(n)}}}}, n
}

func TestHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/seen":
			fmt.Fprint(w, r.Host, " ", r.UserAgent(), " ", r.Header.Get("X-A"), " ", r.URL.RawQuery)
		case "/slow":
			<-r.Context().Done()
		case "/here":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/there":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	plain, port := serverAt(t, httptest.NewServer(handler))
	secure, _ := serverAt(t, httptest.NewTLSServer(handler))
	for _, c := range []struct {
		name string
		at   Place
		get  v1.HTTPGetAction
		ok   bool
		want string
	}{
		{"named port, headers, query", plain, v1.HTTPGetAction{Path: "/seen?x=1", Port: intstr.FromString("http"), HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "h"}, {Name: "X-A", Value: "b"}}}, true, "h kube-probe/1.36 b x=1"},
		{"number", plain, v1.HTTPGetAction{Path: "/seen", Port: intstr.FromInt(port)}, true, "127.0.0.1"},
		{"any certificate", secure, v1.HTTPGetAction{Path: "/seen", Scheme: v1.URISchemeHTTPS, Port: intstr.FromString("http")}, true, ""},
		{"status", plain, v1.HTTPGetAction{Path: "/bad", Port: intstr.FromInt(port)}, false, "HTTP probe failed with statuscode: 500"},
		{"redirection to the same host is followed", plain, v1.HTTPGetAction{Path: "/here", Port: intstr.FromInt(port)}, false, "statuscode: 500"},
		{"redirection elsewhere is an answer", plain, v1.HTTPGetAction{Path: "/there", Port: intstr.FromInt(port)}, true, ""},
		{"too slow", plain, v1.HTTPGetAction{Path: "/slow", Port: intstr.FromInt(port)}, false, "context deadline exceeded"},
		{"unknown port", plain, v1.HTTPGetAction{Port: intstr.FromString("nope")}, false, "couldn't find port: nope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			ok, output := Check(ctx, v1.ProbeHandler{HTTPGet: &c.get}, c.at)
			if ok != c.ok || !strings.Contains(output, c.want) {
				t.Errorf("%v %q, want %v %q", ok, output, c.ok, c.want)
			}
		})
	}
}

func TestTCPAndGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	port := l.Addr().(*net.TCPAddr).Port
	at := Place{IP: "127.0.0.1", Container: &v1.Container{}}
	check := func(h v1.ProbeHandler, want bool, message string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if ok, output := Check(ctx, h, at); ok != want || !strings.Contains(output, message) {
			t.Errorf("%+v: %v %q", h, ok, output)
		}
	}
	check(v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}}, true, "")
	check(v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(port)}}, true, "")
	state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	check(v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(port)}}, false, "NOT_SERVING")
	name := "nope"
	check(v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(port), Service: &name}}, false, "unknown service")
	server.Stop()
	check(v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}}, false, "refused")
}

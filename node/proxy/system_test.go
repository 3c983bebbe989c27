//go:build system

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/node/dns"
)

// web is a service on 10.96.0.10:80, TCP and UDP, of the given endpoints' port 8080.
func web(mend func(*corev1.Service), endpoints ...string) objects {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10", Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP},
			{Name: "dns", Port: 80, Protocol: corev1.ProtocolUDP},
		}},
	}
	if mend != nil {
		mend(s)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range s.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(p.Name), Port: new(int32(8080)), Protocol: new(p.Protocol)})
	}
	for _, ip := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: new("here")})
	}
	return objects{services: []*corev1.Service{s}, slices: []*discoveryv1.EndpointSlice{slice}}
}

const service = "10.96.0.10:80"

func nodePort(policy corev1.ServiceExternalTrafficPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.ExternalTrafficPolicy = policy
		s.Spec.ExternalIPs = []string{"203.0.113.5"}
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 30080
		}
	}
}

func TestClusterIP(t *testing.T) {
	for _, bridgeNetfilter := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridgeNetfilter, func(t *testing.T) {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(bridgeNetfilter), 0); err != nil {
				t.Fatal(err)
			}
			h := newHost(t)
			a, b, c := h.pod("a"), h.pod("b"), h.pod("c")
			h.start(web(nil, a.ip, b.ip, c.ip))
			for _, from := range []struct{ name, netns, ip string }{
				{"host", "", h.net.Gateway().String()}, {"pod", a.netns, a.ip},
			} {
				hits := map[string]int{}
				for range 60 {
					server, client, err := call(from.netns, service)
					if err != nil {
						t.Fatalf("from %s: %v", from.name, err)
					}
					want := from.ip
					if server == from.name || (from.netns != "" && server == "a") {
						want = h.net.Gateway().String() // a pod that reaches itself
					}
					if client != want {
						t.Errorf("from %s: %s saw %s, want %s", from.name, server, client, want)
					}
					hits[server]++
				}
				if len(hits) != 3 || hits["a"] < 5 || hits["b"] < 5 || hits["c"] < 5 {
					t.Errorf("from %s: not spread: %v", from.name, hits)
				}
			}
			// Only the pod itself is left.
			h.give(web(nil, a.ip))
			h.eventually("only a serves", func() bool {
				for range 20 {
					if s, _, err := call(b.netns, service); err != nil || s != "a" {
						return false
					}
				}
				return true
			})
			for range 5 {
				if server, _, err := call(a.netns, service); err != nil || server != "a" {
					t.Errorf("hairpin: %q %v", server, err)
				}
			}
		})
	}
}

func TestRefusesWhatNothingServes(t *testing.T) {
	h := newHost(t)
	a := h.pod("a")
	h.start(web(nodePort(""), a.ip))
	refused := func(what, netns, addr string) {
		t.Helper()
		if _, _, err := call(netns, addr); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("unknown port from the host", "", "10.96.0.10:81")
	refused("unknown port from a pod", a.netns, "10.96.0.10:81")
	h.give(web(nodePort("")))
	h.eventually("refused", func() bool { _, _, err := call("", service); return errors.Is(err, unix.ECONNREFUSED) })
	refused("no endpoints, from a pod", a.netns, service)
	refused("no endpoints, node port from outside", h.outside, "198.51.100.1:30080")
	refused("no endpoints, node port from the host", "", "127.0.0.1:30080")
	refused("no endpoints, external address from outside", h.outside, "203.0.113.5:80")
	h.proxy.Service("default", "web", nil)
	h.give(web(nil, a.ip))
	h.eventually("served again", func() bool { s, _, err := call("", service); return err == nil && s == "a" })
}

func TestFromOutside(t *testing.T) {
	h := newHost(t)
	a, b := h.pod("a"), h.pod("b")
	h.start(web(nodePort(corev1.ServiceExternalTrafficPolicyCluster), a.ip, b.ip))
	reach := func(what, netns, addr, want string) {
		t.Helper()
		if server, client, err := call(netns, addr); err != nil || server == "" || (want != "" && client != want) {
			t.Errorf("%s: %q saw %q, want %q: %v", what, server, client, want, err)
		}
	}
	gateway := h.net.Gateway().String()
	for range 4 {
		reach("node port", h.outside, "198.51.100.1:30080", gateway)
		reach("node port from the host", "", "198.51.100.1:30080", gateway)
		reach("node port at localhost", "", "127.0.0.1:30080", gateway)
		reach("node port from a pod", a.netns, "198.51.100.1:30080", gateway)
		reach("node port from a pod at the gateway", a.netns, gateway+":30080", gateway)
		reach("external address", h.outside, "203.0.113.5:80", gateway)
		reach("external address from a pod", a.netns, "203.0.113.5:80", gateway)
		reach("cluster address from outside", h.outside, service, gateway)
	}
	h.give(web(nodePort(corev1.ServiceExternalTrafficPolicyLocal), a.ip, b.ip))
	h.eventually("the source is kept", func() bool {
		_, client, err := call(h.outside, "198.51.100.1:30080")
		return err == nil && client == outsideIP.String()
	})
	reach("external address, Local", h.outside, "203.0.113.5:80", outsideIP.String())
	reach("localhost, Local", "", "127.0.0.1:30080", gateway)
	reach("from a pod, Local", a.netns, "198.51.100.1:30080", "")

	elsewhere := web(nodePort(corev1.ServiceExternalTrafficPolicyLocal), b.ip)
	elsewhere.slices[0].Endpoints[0].NodeName = new("there")
	h.give(elsewhere)
	h.eventually("dropped from outside", func() bool {
		_, _, err := call(h.outside, "198.51.100.1:30080")
		timeout, ok := errors.AsType[net.Error](err)
		return ok && timeout.Timeout()
	})
	reach("from the host, served elsewhere", "", "198.51.100.1:30080", "")
	reach("from a pod, served elsewhere", a.netns, "198.51.100.1:30080", "")
}

func TestHostPorts(t *testing.T) {
	h := newHost(t)
	a, b := h.pod("a"), h.pod("b")
	with := func(p pod, hostIP string, port int32) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: p.name},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{ContainerPort: 8080, HostPort: port, HostIP: hostIP}}}}},
			Status: corev1.PodStatus{PodIP: p.ip, Phase: corev1.PodRunning},
		}
	}
	h.start(objects{pods: []*corev1.Pod{with(a, "", 9000), with(b, "127.0.0.1", 9001)}})
	gateway := h.net.Gateway().String()
	for _, c := range []struct{ what, netns, addr, server, client string }{
		{"outside", h.outside, "198.51.100.1:9000", "a", outsideIP.String()},
		{"host", "", "198.51.100.1:9000", "a", "198.51.100.1"},
		{"localhost", "", "127.0.0.1:9000", "a", gateway},
		{"another pod", b.netns, "198.51.100.1:9000", "a", b.ip},
		{"itself", a.netns, "198.51.100.1:9000", "a", gateway},
		{"one address only", "", "127.0.0.1:9001", "b", gateway},
	} {
		if server, client, err := call(c.netns, c.addr); err != nil || server != c.server || client != c.client {
			t.Errorf("%s: %q saw %q (%v), want %q %q", c.what, server, client, err, c.server, c.client)
		}
	}
	// A client on the host that calls the loopback address as the host's other one.
	dialer := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: hostIP.AsSlice()}}
	c, err := dialer.Dial("tcp4", "127.0.0.1:9001")
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || string(answer) != "b 198.51.100.1" {
		t.Errorf("loopback from another address: %q %v", answer, err)
	}
	c.Close()
	if _, _, err := call(h.outside, "198.51.100.1:9001"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("another address: %v", err)
	}
	h.proxy.Pod("default", "a", nil)
	h.eventually("the port is free", func() bool {
		_, _, err := call(h.outside, "198.51.100.1:9000")
		return errors.Is(err, unix.ECONNREFUSED)
	})
}

// The node's DNS server has its address on the pods' bridge, inside the network of services. The rules must leave it
// alone, with and without a service of that address that says so.
func TestLeavesDNSAlone(t *testing.T) {
	h := newHost(t)
	a := h.pod("a")
	at := netip.MustParseAddrPort("10.96.0.53:53")
	server, err := dns.New(dns.Options{Listen: []netip.AddrPort{at}, Link: "otest0", Upstreams: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-server.Serving()
	o := web(nil, a.ip)
	server.Service("default", "web", o.services[0])
	h.start(o)
	resolve := func(what, netns, network string) {
		t.Helper()
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
			err = within(netns, func() error { c, err = (&net.Dialer{}).DialContext(ctx, network, at.String()); return err })
			return c, err
		}}
		limited, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if got, err := resolver.LookupHost(limited, "web.default.svc.cluster.local."); err != nil || got[0] != "10.96.0.10" {
			t.Errorf("%s over %s: %v %v", what, network, got, err)
		}
	}
	for _, what := range []string{"no service", "labelled service"} {
		for _, network := range []string{"udp", "tcp"} {
			resolve(what+", pod", a.netns, network)
			resolve(what+", host", "", network)
		}
		own := web(func(s *corev1.Service) {
			s.Name, s.Spec.ClusterIP = "kube-dns", at.Addr().String()
			s.Spec.Ports[1].Port = 53
			s.Labels = map[string]string{labelProxyName: "orlog"}
		})
		h.give(objects{services: own.services})
		h.give(web(nil, a.ip, "10.244.0.250"))
		h.eventually("the change is written", func() bool {
			out, err := exec.Command("nft", "list", "table", "ip", h.opts.Table).Output()
			return err == nil && bytes.Contains(out, []byte("10.244.0.250"))
		})
	}
}

// The API server is a service whose endpoint is the host itself.
func TestEndpointOnTheHost(t *testing.T) {
	h := newHost(t)
	a := h.pod("a")
	h.serve("", "api", hostIP.String()+":8080")
	o := web(nil, hostIP.String())
	o.slices[0].Endpoints[0].NodeName = nil
	h.start(o)
	if server, client, err := call(a.netns, service); err != nil || server != "api" || client != a.ip {
		t.Errorf("from a pod: %q %q %v", server, client, err)
	}
	if server, _, err := call("", service); err != nil || server != "api" {
		t.Errorf("from the host: %q %v", server, err)
	}
}

func TestSessionAffinityOutlivesTheProxy(t *testing.T) {
	h := newHost(t)
	a, b, c := h.pod("a"), h.pod("b"), h.pod("c")
	sticky := func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	h.start(web(sticky, a.ip, b.ip, c.ip))
	same := func(what, want string) {
		t.Helper()
		for range 12 {
			if server, _, err := call(a.netns, service); err != nil || server != want {
				t.Errorf("%s: reached %q (%v), before %q", what, server, err, want)
			}
		}
	}
	first, _, err := call(a.netns, service)
	if err != nil {
		t.Fatal(err)
	}
	same("at once", first)
	h.start(web(sticky, a.ip, b.ip, c.ip))
	same("after a restart", first)
	var rest []string
	for _, p := range []pod{a, b, c} {
		if p.name != first {
			rest = append(rest, p.ip)
		}
	}
	h.give(web(sticky, rest...))
	h.eventually("another endpoint", func() bool { s, _, err := call(a.netns, service); return err == nil && s != first })
	second, _, err := call(a.netns, service)
	if err != nil {
		t.Fatal(err)
	}
	same("after its endpoint went", second)
}

// A UDP client that keeps its socket must get to the new endpoint when the old one goes.
func TestUDPFlowsFollowTheEndpoints(t *testing.T) {
	h := newHost(t)
	a, b, client := h.pod("a"), h.pod("b"), h.pod("client")
	h.start(web(nil, a.ip))
	for _, from := range []string{client.netns, ""} {
		h.give(web(nil, a.ip))
		var c net.Conn
		err := within(from, func() (err error) { c, err = net.Dial("udp4", service); return err })
		if err != nil {
			t.Fatal(err)
		}
		ask := func() string {
			c.Write([]byte("?"))
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			buf := make([]byte, 64)
			n, _ := c.Read(buf)
			server, _, _ := strings.Cut(string(buf[:n]), " ")
			return server
		}
		h.eventually("a answers", func() bool { return ask() == "a" })
		h.give(web(nil, b.ip))
		h.eventually("b answers", func() bool { return ask() == "b" })
		h.proxy.EndpointSlice("default", "web-1", nil)
		h.eventually("nobody answers", func() bool { return ask() == "" })
		h.give(web(nil, a.ip))
		h.eventually("a answers again", func() bool { return ask() == "a" })
		c.Close()
	}
}

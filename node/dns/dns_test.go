package dns

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// leaks is the one goroutine that outlives a server: CoreDNS ends it in a finalizer.
var leaks = goleak.IgnoreTopFunction("github.com/coredns/coredns/plugin/pkg/proxy.(*Transport).connManager")

var update = flag.Bool("update", false, "rewrite testdata with what the code does now")

// start runs a server on a loopback port with the given upstreams.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Listen = append(o.Listen, netip.MustParseAddrPort("127.0.0.1:0"))
	o.Networks = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")}
	if o.Upstreams == nil {
		o.Upstreams = []string{}
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Serving():
	case <-time.After(10 * time.Second):
		t.Fatal("does not serve")
	}
	return s
}

// world is a resolver that knows one name and counts its questions.
func world(t *testing.T) (addr string, asked *atomic.Int32) {
	t.Helper()
	packets, streams, err := bind(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int32)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg)
		m.SetReply(r)
		if q := r.Question[0]; q.Name == "www.example.com." {
			if q.Qtype == dns.TypeA {
				m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 80)}}
			}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return packets.LocalAddr().String(), asked
}

func ask(t *testing.T, s *Server, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	client := &dns.Client{Net: network, Timeout: 5 * time.Second}
	got, _, err := client.Exchange(m, s.Addrs()[0].String())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return got
}

func give(t *testing.T, s *Server, cluster []byte) {
	t.Helper()
	for _, doc := range bytes.Split(cluster, []byte("\n---\n")) {
		var head struct{ Kind string }
		err := yaml.Unmarshal(doc, &head)
		switch head.Kind {
		case "Service":
			v := new(corev1.Service)
			err = yaml.UnmarshalStrict(doc, v)
			s.Service(v.Namespace, v.Name, v)
		case "EndpointSlice":
			v := new(discoveryv1.EndpointSlice)
			err = yaml.UnmarshalStrict(doc, v)
			s.EndpointSlice(v.Namespace, v.Name, v)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
	}
}

// text is an answer in the form that testdata has it.
func text(m *dns.Msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s", dns.RcodeToString[m.Rcode])
	if !m.Authoritative {
		b.WriteString(" (not authoritative)")
	}
	b.WriteString("\n")
	section := func(mark string, rrs []dns.RR) {
		var lines []string
		for _, rr := range rrs {
			if soa, is := rr.(*dns.SOA); is {
				soa.Serial = 0
			}
			if rr.Header().Rrtype != dns.TypeOPT {
				f := strings.Fields(rr.String())
				lines = append(lines, "  "+mark+" "+f[0]+" "+strings.Join(f[3:], " ")+"\n")
			}
		}
		if len(rrs) > 0 && rrs[0].Header().Rrtype != dns.TypeCNAME {
			slices.Sort(lines)
		}
		b.WriteString(strings.Join(lines, ""))
	}
	section("-", m.Answer)
	section("!", m.Ns)
	section("+", m.Extra)
	return b.String()
}

func TestAnswers(t *testing.T) {
	upstream, _ := world(t)
	s := start(t, Options{Upstreams: []string{upstream}})
	const file = "testdata/answers.txtar"
	story, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	give(t, s, story.Files[0].Data)
	var got strings.Builder
	for line := range strings.SplitSeq(strings.TrimSpace(string(story.Files[1].Data)), "\n") {
		name, qtype, ok := strings.Cut(line, " ")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		fmt.Fprintf(&got, "%s\n%s", line, text(ask(t, s, "udp", name, dns.StringToType[qtype])))
	}
	if *update {
		story.Files[1].Data = []byte(got.String())
		if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(story.Files[1].Data); got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestChangesShowAtOnce(t *testing.T) {
	s := start(t, Options{})
	web := func(ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: ip}}
	}
	expect := func(code int, ip, ptr string) {
		t.Helper()
		m := ask(t, s, "udp", "web.a.svc.cluster.local", dns.TypeA)
		if m.Rcode != code || (ip != "" && m.Answer[0].(*dns.A).A.String() != ip) {
			t.Errorf("got %v", m)
		}
		if m := ask(t, s, "udp", "2.0.96.10.in-addr.arpa", dns.TypePTR); (len(m.Answer) > 0) != (ptr != "") {
			t.Errorf("got %v", m)
		}
	}
	expect(dns.RcodeNameError, "", "")
	s.Service("a", "web", web("10.96.0.1"))
	expect(dns.RcodeSuccess, "10.96.0.1", "")
	s.Service("a", "web", web("10.96.0.2"))
	expect(dns.RcodeSuccess, "10.96.0.2", "web")
	s.Service("a", "web", web("None"))
	s.EndpointSlice("a", "web-1", &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.96.0.2"}}},
	})
	expect(dns.RcodeSuccess, "10.96.0.2", "web")
	s.EndpointSlice("a", "web-1", nil)
	if m := ask(t, s, "udp", "web.a.svc.cluster.local", dns.TypeA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("got %v", m)
	}
	s.Service("a", "web", nil)
	expect(dns.RcodeNameError, "", "")
	if len(s.records.services)+len(s.records.slices)+len(s.records.ofService)+len(s.records.namespaces) != 0 {
		t.Errorf("left over: %+v", s.records)
	}
}

func TestLargeAnswersAndOrder(t *testing.T) {
	s := start(t, Options{})
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "big"}}}
	for i := range 100 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.1.%d", i)}})
	}
	s.Service("a", "big", &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None"}})
	s.EndpointSlice("a", "big-1", slice)
	if m := ask(t, s, "udp", "big.a.svc.cluster.local", dns.TypeA); !m.Truncated {
		t.Error("100 addresses in 512 bytes")
	}
	first := map[string]bool{}
	for range 20 {
		m := ask(t, s, "tcp", "big.a.svc.cluster.local", dns.TypeA)
		if m.Truncated || len(m.Answer) != 100 {
			t.Fatalf("%d answers over TCP", len(m.Answer))
		}
		first[m.Answer[0].String()] = true
	}
	if len(first) < 5 {
		t.Errorf("the first is always one of %d", len(first))
	}
}

func TestForeignNames(t *testing.T) {
	upstream, asked := world(t)
	s := start(t, Options{Upstreams: []string{upstream}})
	for range 3 {
		if m := ask(t, s, "udp", "www.example.com", dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("got %v", m)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times for what is in the cache", n)
	}
	alone := start(t, Options{})
	if m := ask(t, alone, "udp", "www.example.com", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without upstreams: %v", m)
	}
}

func TestSeveralServersStopAndStart(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("servers", func(t *testing.T) {
		upstream, _ := world(t)
		for range 3 {
			s := start(t, Options{Upstreams: []string{upstream}, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:0")}})
			if len(s.Addrs()) != 2 {
				t.Errorf("listens at %v", s.Addrs())
			}
			ask(t, s, "tcp", "www.example.com", dns.TypeA)
		}
	})
	// CoreDNS ends the managers of connections to upstreams when the garbage collector finds them unused.
	goleak.VerifyNone(t, before, leaks)
}

func TestRunFailsWhereItCannotListen(t *testing.T) {
	taken := start(t, Options{}).Addrs()[0]
	s, err := New(Options{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.3:0"), taken}, Upstreams: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Listen") {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	listen := []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 10.96.0.10\nnameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Listen: listen, ResolvConf: resolv})
	if err != nil || !slices.Equal(s.opts.Upstreams, []string{"192.0.2.53:53"}) {
		t.Errorf("%v %v", s, err)
	}
	for want, o := range map[string]Options{
		"Listen":     {},
		"Domain":     {Listen: listen, Domain: strings.Repeat("x", 300)},
		"Upstreams":  {Listen: listen, Upstreams: []string{"dns.example.com"}},
		"ResolvConf": {Listen: listen, ResolvConf: "/nowhere"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

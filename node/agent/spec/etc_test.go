package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func podOf(t *testing.T, text string) *v1.Pod {
	t.Helper()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1"}}
	if err := yaml.UnmarshalStrict([]byte(text), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHostnameAndHosts(t *testing.T) {
	for _, c := range []struct{ spec, host, domain, line string }{
		{"", "web", "", "10.1.0.2\tweb\n"},
		{"hostname: h", "h", "", "10.1.0.2\th\n"},
		{"{hostname: h, subdomain: sub}", "h", "sub.shop.svc.cluster.local", "10.1.0.2\th.sub.shop.svc.cluster.local\th\n"},
		{"{subdomain: sub, setHostnameAsFQDN: true}", "web.sub.shop.svc.cluster.local", "", "10.1.0.2\tweb.sub.shop.svc.cluster.local\n"},
		{"{hostname: h, hostnameOverride: other.example.com}", "other.example.com", "", "10.1.0.2\tother.example.com\n"},
		{"hostNetwork: true", "node", "", "127.0.0.1 localhost of-the-node\n"},
		{"hostAliases: [{ip: 1.2.3.4, hostnames: [a, b]}]", "web", "", "1.2.3.4\ta\tb\n"},
	} {
		p := podOf(t, c.spec)
		host, domain := Hostname(p, "node", "cluster.local")
		if host != c.host || domain != c.domain {
			t.Errorf("%q: host %q domain %q", c.spec, host, domain)
		}
		if text := string(Hosts(p, []string{"10.1.0.2"}, host, domain, []byte("127.0.0.1 localhost of-the-node\n"))); !strings.Contains(text, c.line) {
			t.Errorf("%q: hosts file lacks %q:\n%s", c.spec, c.line, text)
		}
	}
	long := podOf(t, "")
	long.Name = strings.Repeat("a", 62) + "-.b"
	if host, _ := Hostname(long, "node", "x"); host != strings.Repeat("a", 62) {
		t.Errorf("long name gives %q", host)
	}
}

func TestPodDNS(t *testing.T) {
	node := ParseResolv("# comment\nnameserver 192.0.2.53\nsearch corp.example\noptions timeout:1\n")
	for _, c := range []struct{ spec, want string }{
		{"dnsPolicy: ClusterFirst", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{"{dnsPolicy: ClusterFirst, hostNetwork: true}", "search corp.example\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"{dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true}", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{"dnsPolicy: Default", "search corp.example\nnameserver 192.0.2.53\noptions timeout:1\n"},
		{"{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [x.example], options: [{name: edns0}]}}", "search x.example\nnameserver 1.1.1.1\noptions edns0\n"},
		{"{dnsPolicy: ClusterFirst, dnsConfig: {options: [{name: ndots, value: '2'}]}}", "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:2\n"},
	} {
		if got := PodDNS(podOf(t, c.spec), "10.96.0.10", "cluster.local", node).String(); got != c.want {
			t.Errorf("%s gives\n%swant\n%s", c.spec, got, c.want)
		}
	}
}

func TestResources(t *testing.T) {
	const burstable = "containers: [{name: main, resources: {requests: {cpu: 250m, memory: 1Gi}, limits: {cpu: 500m}}}]"
	for _, c := range []struct {
		spec string
		qos  v1.PodQOSClass
		own  Limits
		pod  Limits
		oom  int
	}{
		{"containers: [{name: main}]", v1.PodQOSBestEffort, Limits{CPUShares: 2}, Limits{CPUShares: 2}, 1000},
		{burstable, v1.PodQOSBurstable, Limits{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000}, Limits{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000}, 750},
		{"containers: [{name: main, resources: {limits: {cpu: '1', memory: 1Gi}}}]", v1.PodQOSGuaranteed,
			Limits{CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, MemoryBytes: 1 << 30}, Limits{CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, MemoryBytes: 1 << 30}, -997},
		{"containers: [{name: main, resources: {limits: {cpu: 1m}}}, {name: b}]", v1.PodQOSBurstable, Limits{CPUShares: 2, CPUQuota: 1000, CPUPeriod: 100000}, Limits{CPUShares: 2}, 999},
		{"{priority: 2000001000, containers: [{name: main}]}", v1.PodQOSBestEffort, Limits{CPUShares: 2}, Limits{CPUShares: 2}, -997},
	} {
		p := podOf(t, c.spec)
		main := &p.Spec.Containers[0]
		if q := QOS(p); q != c.qos {
			t.Errorf("%s: class %s", c.spec, q)
		}
		if l := ContainerLimits(main); l != c.own {
			t.Errorf("%s: container %+v", c.spec, l)
		}
		if l := PodLimits(p); l != c.pod {
			t.Errorf("%s: pod %+v", c.spec, l)
		}
		if n := OOMScoreAdj(p, main, 4<<30); n != c.oom {
			t.Errorf("%s: oom score %d, want %d", c.spec, n, c.oom)
		}
	}
	if got := CgroupParent("/orlog", podOf(t, burstable)); got != "/orlog/burstable/podu1" {
		t.Error(got)
	}
}

func TestResolveUser(t *testing.T) {
	layer := t.TempDir()
	if err := os.Mkdir(filepath.Join(layer, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n", "group": "root:x:0:\nweb:x:102:\nlogs:x:200:web,x\n"} {
		if err := os.WriteFile(filepath.Join(layer, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		spec, image string
		want        User
		err         string
	}{
		{"", "", User{0, 0, []uint32{0}, "/root"}, ""},
		{"", "web", User{101, 102, []uint32{102, 200}, "/home/web"}, ""},
		{"", "101:logs", User{101, 200, []uint32{200}, "/home/web"}, ""},
		{"", "nobody", User{}, `image user "nobody" is not in the image's /etc/passwd`},
		{"securityContext: {runAsUser: 1000, fsGroup: 7, supplementalGroups: [8]}", "web", User{1000, 0, []uint32{0, 7, 8}, ""}, ""},
		{"securityContext: {runAsUser: 101, runAsGroup: 5}", "", User{101, 5, []uint32{5, 200}, "/home/web"}, ""},
		{"securityContext: {runAsUser: 101, runAsGroup: 5, supplementalGroupsPolicy: Strict}", "", User{101, 5, []uint32{5}, "/home/web"}, ""},
		{"{securityContext: {runAsUser: 1000}, containers: [{name: main, securityContext: {runAsUser: 2000}}]}", "", User{2000, 0, []uint32{0}, ""}, ""},
		{"securityContext: {runAsNonRoot: true}", "", User{}, "container has runAsNonRoot and image will run as root"},
		{"securityContext: {runAsNonRoot: true}", "web", User{}, "image has non-numeric user (web)"},
		{"securityContext: {runAsNonRoot: true}", "101", User{101, 102, []uint32{102, 200}, "/home/web"}, ""},
		{"securityContext: {runAsNonRoot: true, runAsUser: 0}", "", User{}, "container's runAsUser breaks non-root policy"},
	} {
		p := podOf(t, c.spec)
		if len(p.Spec.Containers) == 0 {
			p.Spec.Containers = []v1.Container{{Name: "main"}}
		}
		got, err := ResolveUser(p, &p.Spec.Containers[0], c.image, []string{t.TempDir(), layer})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s %q: error %v, want %q", c.spec, c.image, err, c.err)
			}
			continue
		}
		if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || got.Home != c.want.Home || !equal(got.Groups, c.want.Groups) {
			t.Errorf("%s %q: %+v %v, want %+v", c.spec, c.image, got, err, c.want)
		}
	}
}

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

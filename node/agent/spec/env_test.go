package spec

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/node/volume/downward"
)

type shelf struct{}

func (shelf) ConfigMap(_, name string) (*v1.ConfigMap, error) {
	if name == "cm" {
		return &v1.ConfigMap{Data: map[string]string{"A": "cm-a", "B": "cm-b"}}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (shelf) Secret(_, name string) (*v1.Secret, error) {
	if name == "s" {
		return &v1.Secret{Data: map[string][]byte{"A": []byte("s-a")}}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func container(t *testing.T, text string) *v1.Container {
	t.Helper()
	c := &v1.Container{}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	c.Name = "main"
	return c
}

func TestEnv(t *testing.T) {
	for _, c := range []struct{ name, container, want string }{
		{"expansion sees what came before, services included", `env: [{name: A, value: "1"}, {name: B, value: "$(A)-$(C)-$(SVC)-$$(A)"}, {name: C, value: "3"}]`,
			"A=1 B=1-$(C)-10.0.0.1-$(A) C=3 SVC=10.0.0.1"},
		{"envFrom, prefixed, later ones win, env wins over all", `{envFrom: [{configMapRef: {name: cm}}, {secretRef: {name: s}}, {prefix: X_, configMapRef: {name: cm}}], env: [{name: B, value: own}]}`,
			"A=s-a B=own X_A=cm-a X_B=cm-b SVC=10.0.0.1"},
		{"own value hides a service's", `env: [{name: SVC, value: mine}]`, "SVC=mine"},
		{"fields", `env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: L, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}, {name: I, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]`,
			"NAME=web L=front I=10.1.0.2 SVC=10.0.0.1"},
		{"resources round up; without a limit the node's", `{resources: {limits: {memory: 1500Ki}}, env: [{name: M, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]}`,
			"M=2 C=4 SVC=10.0.0.1"},
		{"keys", `env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: A}}}, {name: S, valueFrom: {secretKeyRef: {name: s, key: A}}}]`, "A=cm-a S=s-a SVC=10.0.0.1"},
		{"optional", `{envFrom: [{configMapRef: {name: nope, optional: true}}], env: [{name: A, valueFrom: {configMapKeyRef: {name: nope, key: A, optional: true}}}, {name: B, valueFrom: {secretKeyRef: {name: s, key: nope, optional: true}}}]}`,
			"SVC=10.0.0.1"},
		{"missing configMap", `envFrom: [{configMapRef: {name: nope}}]`, `!configmap "nope" not found`},
		{"missing secret", `env: [{name: A, valueFrom: {secretKeyRef: {name: nope, key: A}}}]`, `!secret "nope" not found`},
		{"missing key", `env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: Z}}}]`, "!couldn't find key Z in ConfigMap default/cm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			main := container(t, c.container)
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"app": "front"}}, Spec: v1.PodSpec{Containers: []v1.Container{*main}}}
			env, err := Env(main, downward.Fields{Pod: pod, PodIPs: []string{"10.1.0.2"}, Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4")}}, shelf{}, []Var{{"SVC", "10.0.0.1"}})
			got := strings.Join(Strings(nil, env), " ")
			if err != nil {
				got = "!" + err.Error()
				if _, ok := errors.AsType[*ConfigError](err); !ok {
					t.Errorf("%T is no ConfigError", err)
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	known := map[string]string{"A": "1", "B": "$(A)"}
	for in, want := range map[string]string{
		"$(A)": "1", "$$(A)": "$(A)", "$$$(A)": "$1", "$(B)": "$(A)", "$(C)": "$(C)", "$A": "$A", "$": "$", "$(A": "$(A", "x$(A)y$(A)": "x1y1", "$()": "$()", "$$": "$",
	} {
		if got := Expand(in, func(n string) (string, bool) { v, has := known[n]; return v, has }); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestArgs(t *testing.T) {
	for _, c := range []struct{ command, args, entrypoint, cmd, want string }{
		{"", "", "ep", "cmd", "ep cmd"},
		{"", "a", "ep", "cmd", "ep a"},
		{"c", "", "ep", "cmd", "c"},
		{"c", "$(A)", "ep", "cmd", "c 1"},
		{"", "", "", "", ""},
	} {
		got := Args(&v1.Container{Command: strings.Fields(c.command), Args: strings.Fields(c.args)}, strings.Fields(c.entrypoint), strings.Fields(c.cmd), []Var{{"A", "1"}})
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v gives %q", c, got)
		}
	}
}

func TestServiceVars(t *testing.T) {
	svc := func(ns, name, ip string, ports ...v1.ServicePort) *v1.Service {
		return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	all := []*v1.Service{
		svc("default", "kubernetes", "10.96.0.1", v1.ServicePort{Name: "https", Port: 443}),
		svc("shop", "my-db", "10.96.0.9", v1.ServicePort{Name: "sql", Port: 5432}, v1.ServicePort{Name: "ui", Port: 53, Protocol: v1.ProtocolUDP}),
		svc("shop", "headless", "None", v1.ServicePort{Port: 1}), svc("other", "x", "10.96.0.8", v1.ServicePort{Port: 1}),
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}
	got := strings.Join(Strings(nil, ServiceVars(pod, all)), "\n")
	want := `KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
MY_DB_SERVICE_HOST=10.96.0.9
MY_DB_SERVICE_PORT=5432
MY_DB_SERVICE_PORT_SQL=5432
MY_DB_SERVICE_PORT_UI=53
MY_DB_PORT=tcp://10.96.0.9:5432
MY_DB_PORT_5432_TCP=tcp://10.96.0.9:5432
MY_DB_PORT_5432_TCP_PROTO=tcp
MY_DB_PORT_5432_TCP_PORT=5432
MY_DB_PORT_5432_TCP_ADDR=10.96.0.9
MY_DB_PORT_53_UDP=udp://10.96.0.9:53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_ADDR=10.96.0.9`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	no := false
	pod.Spec.EnableServiceLinks = &no
	if n := len(ServiceVars(pod, all)); n != 8 {
		t.Errorf("without service links %d variables, want the 8 of kubernetes", n)
	}
}

func TestImageEnvironmentComesFirst(t *testing.T) {
	got := fmt.Sprint(Strings([]string{"PATH=/bin", "A=image"}, []Var{{"A", "pod"}, {"B", "x"}}))
	if want := "[PATH=/bin A=pod B=x]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

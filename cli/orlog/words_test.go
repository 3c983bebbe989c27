package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/cli/orlog/doctor"
	"github.com/orlog-io/orlog/events"
)

// clientFor is a client of the gateway's own endpoints, without the commands around it.
func clientFor(t *testing.T, url string) *apiClient {
	t.Helper()
	cfg := clientcmd.NewDefaultClientConfig(clientcmdapi.Config{}, &clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: url}})
	if _, err := cfg.ClientConfig(); err != nil {
		t.Fatal(err)
	}
	flags := genericclioptions.NewTestConfigFlags().WithClientConfig(cfg)
	return &apiClient{factory: cmdutil.NewFactory(flags), now: func() time.Time { return testNow }}
}

func TestShortActor(t *testing.T) {
	for actor, want := range map[string]string{
		"system:serviceaccount:kube-system:deployment-controller": "deployment-controller",
		"system:serviceaccount:kube-system:default":               "serviceaccount kube-system/default",
		"system:serviceaccount:shop:robot-controller":             "serviceaccount shop/robot-controller",
		"system:node:vm":        "node vm",
		"system:kube-scheduler": "scheduler",
		"system:apiserver":      "system:apiserver",
		"alice":                 "alice",
		// Nobody passes for a controller, a node or the scheduler.
		"deployment-controller": `user "deployment-controller"`,
		"scheduler":             `user "scheduler"`,
		"node vm":               `user "node vm"`,
		"a\x1b[31m":             `"a\x1b[31m"`,
	} {
		if got := shortActor(actor); got != want {
			t.Errorf("shortActor(%q) = %s, want %s", actor, got, want)
		}
	}
}

func TestStates(t *testing.T) {
	pod := events.Key{Resource: "pods", Namespace: "default", Name: "web-1"}
	deployment := events.Key{Group: "apps", Resource: "deployments", Namespace: "default", Name: "web"}
	for _, c := range []struct {
		key    events.Key
		object string
		want   string
	}{
		{pod, ``, "is gone"},
		{pod, `{"metadata":{"deletionTimestamp":"2026-11-21T10:00:00Z"}}`, "is coming to its end"},
		{pod, `{"status":{"phase":"Pending"}}`, "waits for a node"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ErrImagePull"}}}]}}`, "is starting on vm (ErrImagePull)"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ContainerCreating"}}}]}}`, "is starting on vm"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`, "runs on vm"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Running"}}`, "runs on vm but is not ready"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Failed","reason":"Evicted"}}`, "has failed on vm (Evicted)"},
		{pod, `{"spec":{"nodeName":"vm"},"status":{"phase":"Succeeded"}}`, "has completed on vm"},
		{deployment, `{"status":{"conditions":[{"type":"Available","status":"False"}]}}`, "is not available"},
		{deployment, `{"status":{"conditions":[{"type":"Available","status":"True"}]}}`, "is available"},
		{deployment, `{}`, "is as it is"},
	} {
		var object map[string]any
		if c.object != "" {
			var err error
			if object, err = change.Decode([]byte(c.object)); err != nil {
				t.Fatal(err)
			}
		}
		if got := stateOf(c.key, object).text; got != c.want {
			t.Errorf("%s: %q, want %q", c.object, got, c.want)
		}
	}
}

func TestSummaries(t *testing.T) {
	for _, c := range []struct{ resource, group, object, want string }{
		{"deployments", "apps", `{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"a","image":"a:1"},{"name":"b","image":"b:1"}]}}}}`, "1 replica, a=a:1, b=b:1"},
		{"cronjobs", "batch", `{"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"a:1"}]}}}}}}`, "schedule * * * * *, a=a:1"},
		{"services", "", `{"spec":{"clusterIP":"10.96.0.7","ports":[{"port":80},{"port":443}]}}`, "port 80,443, at 10.96.0.7"},
		{"secrets", "", `{"data":{"password":"c2VjcmV0"}}`, "1 key"},
		{"configmaps", "", `{}`, "0 keys"},
		{"events", "", `{"reason":"Pulled","message":"done","count":2}`, "Pulled: done (2 times)"},
		{"widgets", "example.com", `{"spec":{"size":3}}`, ""},
	} {
		object, err := change.Decode([]byte(c.object))
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(events.Key{Group: c.group, Resource: c.resource, Name: "x"}, object); got != c.want {
			t.Errorf("%s: %q, want %q", c.resource, got, c.want)
		}
	}
}

func TestRecords(t *testing.T) {
	for reason, want := range map[string]string{
		"more visitors": "",
		`{"nodes":3,"feasible":0,"filtered":{"NodeResourcesFit":2,"TaintToleration":1},"refused":{"a":"Insufficient cpu","b":"Insufficient cpu","c":"untolerated taint"},"message":"0/3 nodes are available."}`: "no node: 0/3 nodes are available.\nfiltered: 2 Insufficient cpu, 1 untolerated taint",
		`{"node":"a","nodes":900,"feasible":1,"filtered":{"NodeAffinity":899},"refused":{"b":"x"}}`:                                                                                                             "chosen: node a; 1 of 900 nodes feasible\nfiltered: 899 by NodeAffinity",
		`{"changes":["failed","unready"]}`: "reported at once: failed, unready",
		`{"policy":"x","weight":3}`:        "policy: x\nweight: 3",
		`{broken`:                          "reason: {broken",
	} {
		if got := strings.Join(record(reason, false), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", reason, got, want)
		}
	}
}

func TestNextSteps(t *testing.T) {
	for message, want := range map[string]string{
		"The connection to the server localhost:8080 was refused - did you specify the right host or port?":    "No kubeconfig was found",
		"The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?":    "`task up`",
		"Unable to connect to the server: x509: certificate signed by unknown authority":                       "another one than /k was written for",
		"error: You must be logged in to the server (Unauthorized)":                                            "credentials in /k",
		"Unable to connect to the server: dial tcp: lookup x: no such host":                                    "cannot be reached",
		"Error from server (NotFound): the log has no event about core/pods/default/x":                         "another namespace",
		"Error from server (Forbidden): forbidden: user \"v\" may neither watch this nor GET /orlog/v1/events": "--kind pod",
		"error: open /etc/orlog/kubeconfig: permission denied":                                                 "sudo",
		"error: unknown flag: --x": "",
	} {
		if got := nextStep(message, "/k", checkout); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
	if got := nextStep("was refused", "/k", service); !strings.Contains(got, "systemctl start orlogd") {
		t.Errorf("installed: %q", got)
	}
}

func TestClusterThatIsNoOrlog(t *testing.T) {
	g := &recording{}
	kubeconfig := serve(t, g)
	got, _ := orlog(t, kubeconfig, "history", "nodes/vm")
	if !strings.Contains(got, "no event") {
		t.Errorf("%s", got)
	}
	if got, code := orlog(t, kubeconfigFor(t, "http://127.0.0.1:1"), "history", "core/pods/default/a"); code != 1 || !strings.Contains(got, "was refused") {
		t.Errorf("%d %s", code, got)
	}
}

func TestVersion(t *testing.T) {
	v := readBuildVersion(&debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}})
	if v.Version != "devel" || v.Revision != "abc" || !v.Modified {
		t.Errorf("%+v", v)
	}
	kubeconfig := serve(t, &recording{})
	for args, want := range map[string][]string{
		"version":                  {"Orlog Version: ", "Client Version: ", "Server Version: v1.36.3+orlog"},
		"version --client":         {"Orlog Version: "},
		"version -o json":          {`"orlogVersion": {`, `"serverVersion": {`},
		"version --client -o yaml": {"orlogVersion:\n", "clientVersion:\n"},
	} {
		got, _ := orlog(t, kubeconfig, strings.Fields(args)...)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", args, w, got)
			}
		}
	}
}

func TestPrintFindings(t *testing.T) {
	var b strings.Builder
	findings := []doctor.Finding{{Check: "user", Status: doctor.OK, Detail: "root"},
		{Check: "open files", Status: doctor.Warning, Detail: "20000", Advice: "raise the limit"}}
	if err := printFindings(&b, findings, false); err != nil {
		t.Fatal(err)
	}
	want := `ok       user        root
warning  open files  20000 -> raise the limit

2 checks: 1 warning, 0 problems
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestDiffMasksSecrets(t *testing.T) {
	was := map[string]any{"data": map[string]any{"same": "YQ==", "moved": "YQ==", "gone": "YQ=="}}
	is := map[string]any{"data": map[string]any{"same": "YQ==", "moved": "Yg==", "new": "YQ=="}}
	maskSecrets(was, is)
	want := "map[data:map[gone:*** moved:*** (before) same:***]] map[data:map[moved:*** (after) new:*** same:***]]"
	if got := fmt.Sprint(was, is); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// tree walks all commands.
func tree(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		tree(sub, visit)
	}
}

func TestHelpSpeaksOfOrlog(t *testing.T) {
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	root, _ := newRoot([]string{"orlog"}, streams, time.Now)
	tree(root, func(c *cobra.Command) {
		for _, line := range strings.Split(c.Short+"\n"+c.Long+"\n"+c.Example, "\n") {
			if strings.Contains(line, "kubectl ") && !strings.Contains(line, "kubectl inside") {
				t.Errorf("%s: %s", c.CommandPath(), strings.TrimSpace(line))
			}
		}
	})
	for _, name := range []string{"history", "why", "tail", "diff", "doctor", "image", "version"} {
		if c := subcommand(root, name); c.Short == "" || c.Long == "" || name != "version" && name != "image" && !strings.Contains(c.Example, "orlog "+name) {
			t.Errorf("%s: its help is not complete", name)
		}
	}
}

func TestCompletion(t *testing.T) {
	kubeconfig := serve(t, &recording{})
	for args, want := range map[string]string{
		"history dep":        "deployments.apps",
		"why rep":            "replicasets.apps",
		"diff po":            "pods",
		"tail --kind dep":    "deployments.apps",
		"tail --kind po,sec": "po,secrets",
		"tail --class d":     "desired",
		"history -o y":       "yaml",
	} {
		got, _ := orlog(t, kubeconfig, append([]string{"__complete"}, strings.Fields(args)...)...)
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s: no %q in %q", args, want, got)
		}
	}
}

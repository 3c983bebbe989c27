//go:build system

package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/orlog-io/orlog/events"
)

// put writes a configMap or secret.
func (h *host) put(name string, data map[string]string) {
	h.Helper()
	cm := v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "c1"}, Data: data}
	raw, err := json.Marshal(cm)
	if err != nil {
		h.Fatal(err)
	}
	h.append(events.Key{Resource: "configmaps", Namespace: "default", Name: name}, "configmap", string(raw))
	secret := v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "c1"}, Data: map[string][]byte{}}
	for k, s := range data {
		secret.Data[k] = []byte(s)
	}
	if raw, err = json.Marshal(secret); err != nil {
		h.Fatal(err)
	}
	h.append(events.Key{Resource: "secrets", Namespace: "default", Name: name}, "secret", string(raw))
}

// awaitFile waits until a file of a pod's container has some content.
func (h *host) awaitFile(p *v1.Pod, path, want string) {
	h.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		b, err := os.ReadFile(h.in(p, path))
		if err == nil && string(b) == want {
			return
		}
		if time.Now().After(deadline) {
			h.Fatalf("%s: %q %v, want %q", path, b, err, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Every kind of volume shows what it should, with the modes that were asked for, and what changes is shown without a
// restart.
func TestRealVolumesAndTheirUpdates(t *testing.T) {
	h := newHost(t)
	h.put("settings", map[string]string{"a": "1", "b": "2"})
	onHost := filepath.Join(h.dir, "on-host")
	ref := v1.LocalObjectReference{Name: "settings"}
	items := []v1.KeyToPath{{Key: "a", Path: "deep/a", Mode: ptrTo(int32(0o400))}, {Key: "b", Path: "b"}}
	fields := []v1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "note", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.annotations['note']"}},
		{Path: "limit", ResourceFieldRef: &v1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}}
	p := shell("volumes", `cd /v; stat -L -c "%a %n" cm/deep/a cm/b secret/a down/labels all/cm/a; ls /host; stat -c "%a %n" mem tmp; grep " /v/mem " /proc/mounts | cut -d" " -f3
echo x >/host/made; echo sub >tmp/file; echo $SUB/`+"`cat /sub/where`"+`; echo y 2>/dev/null >cm/b || echo cm-read-only; echo end; sleep 1000`, func(p *v1.Pod) {
		p.Labels, p.Annotations = map[string]string{"tier": "one"}, map[string]string{"note": "first"}
		c := &p.Spec.Containers[0]
		c.Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("64Mi")}
		c.Env = []v1.EnvVar{{Name: "SUB", Value: "blue"}}
		volume := func(name string, source v1.VolumeSource) {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: source})
			c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, MountPath: "/v/" + name})
		}
		volume("cm", v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: items, DefaultMode: ptrTo(int32(0o640))}})
		volume("secret", v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "settings", DefaultMode: ptrTo(int32(0o440))}})
		volume("down", v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: fields}})
		volume("all", v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: ptrTo(int32(0o600)), Sources: []v1.VolumeProjection{
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: ref, Items: []v1.KeyToPath{{Key: "a", Path: "cm/a"}}}},
			{Secret: &v1.SecretProjection{LocalObjectReference: ref, Items: []v1.KeyToPath{{Key: "b", Path: "secret/b"}}}},
			{DownwardAPI: &v1.DownwardAPIProjection{Items: fields[:1]}},
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "absent"}, Optional: ptrTo(true)}},
		}}})
		volume("mem", v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory}})
		volume("tmp", v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}})
		volume("maybe", v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "later"}, Optional: ptrTo(true)}})
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: onHost, Type: ptrTo(v1.HostPathDirectoryOrCreate)}}})
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: "host", MountPath: "/host"},
			v1.VolumeMount{Name: "tmp", MountPath: "/sub", SubPathExpr: "$(SUB)/inner"},
			v1.VolumeMount{Name: "cm", MountPath: "/fixed", SubPath: "b"})
		p.Spec.InitContainers = []v1.Container{{Name: "prepare", Image: "busybox:1", Command: []string{"/bin/sh", "-c", "mkdir -p /tmp/v/blue/inner; echo inner >/tmp/v/blue/inner/where"},
			VolumeMounts: []v1.VolumeMount{{Name: "tmp", MountPath: "/tmp/v"}}}}
	})
	h.want(p, "bound")
	h.awaitReady(p)
	want := "400 cm/deep/a\n640 cm/b\n440 secret/a\n644 down/labels\n600 all/cm/a\n1777 mem\n777 tmp\ntmpfs\nblue/inner\ncm-read-only\nend\n"
	if got := h.logUntil(p, "main", 0, "end\n"); got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
	if b, err := os.ReadFile(onHost + "/made"); err != nil || string(b) != "x\n" {
		t.Errorf("on the host: %q %v", b, err)
	}
	h.awaitFile(p, "/v/down/labels", `tier="one"`)
	h.awaitFile(p, "/v/down/limit", "64")

	h.put("settings", map[string]string{"a": "11", "b": "22", "c": "33"})
	h.put("later", map[string]string{"came": "yes"})
	p.Labels["tier"], p.Annotations["note"] = "two", "second"
	h.want(p, "labelled")
	for path, want := range map[string]string{"/v/cm/deep/a": "11", "/v/cm/b": "22", "/v/secret/c": "33", "/v/all/cm/a": "11", "/v/all/secret/b": "22",
		"/v/down/labels": `tier="two"`, "/v/all/labels": `tier="two"`, "/v/down/note": "second", "/v/maybe/came": "yes"} {
		h.awaitFile(p, path, want)
	}
	h.awaitFile(p, "/fixed", "2") // a path inside a volume is what it was, as in Kubernetes
	h.remove(p, 1)
	if b, err := os.ReadFile(onHost + "/made"); err != nil || string(b) != "x\n" {
		t.Errorf("a removed pod took the host's files along: %q %v", b, err)
	}
}

// mint is a JWT that lived since and will live until.
func mint(n int32, since, until time.Time) string {
	claims, err := json.Marshal(map[string]any{"iat": since.Unix(), "exp": until.Unix(), "jti": n})
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(claims) + ".x"
}

// tokenAPI makes tokens, and forgets what else it is asked.
type tokenAPI struct {
	record.EventSink
	create func(*authv1.TokenRequest) string
}

func (a tokenAPI) CreateToken(_ context.Context, _, _ string, req *authv1.TokenRequest) (*authv1.TokenRequest, error) {
	out := req.DeepCopy()
	out.Status.Token = a.create(req)
	return out, nil
}

func (tokenAPI) CreateNode(context.Context, *v1.Node) error     { return nil }
func (a tokenAPI) Events() record.EventSink                     { return a }
func (tokenAPI) Create(e *v1.Event) (*v1.Event, error)          { return e, nil }
func (tokenAPI) Patch(e *v1.Event, _ []byte) (*v1.Event, error) { return e, nil }

// A pod's token is asked for by its audience and lifetime, and replaced when it has aged, also by an agent that did not
// mount it.
func TestRealTokenIsReplaced(t *testing.T) {
	var asked atomic.Int32
	var life atomic.Int64
	life.Store(int64(time.Hour))
	var request atomic.Pointer[authv1.TokenRequest]
	api := tokenAPI{create: func(req *authv1.TokenRequest) string {
		request.Store(req)
		now := time.Now()
		return mint(asked.Add(1), now.Add(-time.Duration(life.Load())), now.Add(time.Hour))
	}}
	h := newHostWith(t, func(h *host) { h.options.API = api })
	p := shell("tokened", `while :; do cat /token/t >/dev/null; sleep 0.1; done`, func(p *v1.Pod) {
		p.Spec.ServiceAccountName = "builder"
		p.Spec.Volumes = []v1.Volume{{Name: "token", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptrTo(int64(1200)), Path: "t"}}}}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "token", MountPath: "/token", ReadOnly: true}}
	})
	h.want(p, "bound")
	h.awaitReady(p)
	r := request.Load()
	if r == nil || r.Spec.Audiences[0] != "vault" || *r.Spec.ExpirationSeconds != 1200 || r.Spec.BoundObjectRef.UID != p.UID || asked.Load() != 1 {
		t.Fatalf("asked %d times: %+v", asked.Load(), r)
	}
	first, err := os.ReadFile(h.in(p, "/token/t"))
	if err != nil {
		t.Fatal(err)
	}
	// The first has half its life behind it; four hours in, it would be time. The agent that comes finds one that is.
	h.stop()
	old := mint(0, time.Now().Add(-9*time.Hour), time.Now().Add(time.Hour))
	if err := os.WriteFile(filepath.Join(h.dir, "agent/volumes", string(p.UID), "volumes/token/..data/t"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	h.up()
	deadline := time.Now().Add(10 * time.Second)
	for {
		now, err := os.ReadFile(h.in(p, "/token/t"))
		if err == nil && string(now) != old {
			if string(now) == string(first) || asked.Load() != 2 {
				t.Errorf("the new token is %q, asked for %d times", now, asked.Load())
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the old token stays: %q %v", now, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if st := h.awaitReady(p); st.ContainerStatuses[0].RestartCount != 0 {
		t.Error("restarted for a token")
	}
}

// The environment comes from everywhere, in the order that Kubernetes gives it.
func TestRealEnvironment(t *testing.T) {
	h := newHost(t)
	h.put("settings", map[string]string{"COLOR": "red", "SIZE": "9", "not-a-name": "fine"})
	p := shell("env", "", func(p *v1.Pod) {
		p.Labels, p.Annotations = map[string]string{"tier": "web"}, map[string]string{"note": "hi"}
		p.Spec.ServiceAccountName = "builder"
		c := &p.Spec.Containers[0]
		c.Command, c.Args = []string{"/bin/sh", "-c"}, []string{`echo 'arg $(COLOR) $$(COLOR) $(NONE)'; env; echo end; sleep 1000`}
		c.Resources = v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1500m"), v1.ResourceMemory: resource.MustParse("64Mi")},
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")}}
		ref := v1.LocalObjectReference{Name: "settings"}
		c.EnvFrom = []v1.EnvFromSource{
			{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: ref}},
			{Prefix: "S_", SecretRef: &v1.SecretEnvSource{LocalObjectReference: ref}},
			{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "absent"}, Optional: ptrTo(true)}},
			{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "absent"}, Optional: ptrTo(true)}},
		}
		field := func(name, path string) {
			c.Env = append(c.Env, v1.EnvVar{Name: name, ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: path}}})
		}
		number := func(name, of, divisor string) {
			f := &v1.ResourceFieldSelector{Resource: of}
			if divisor != "" {
				f.Divisor = resource.MustParse(divisor)
			}
			c.Env = append(c.Env, v1.EnvVar{Name: name, ValueFrom: &v1.EnvVarSource{ResourceFieldRef: f}})
		}
		c.Env = []v1.EnvVar{{Name: "COLOR", Value: "blue"}, {Name: "BOTH", Value: "$(COLOR)-$(S_SIZE)-$(NONE)"},
			{Name: "KEY", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: ref, Key: "SIZE"}}},
			{Name: "MAYBE", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "none", Optional: ptrTo(true)}}}}
		for name, path := range map[string]string{"POD": "metadata.name", "NS": "metadata.namespace", "UID_": "metadata.uid", "TIER": "metadata.labels['tier']", "NOTE": "metadata.annotations['note']",
			"NODE": "spec.nodeName", "SA": "spec.serviceAccountName", "HOST_IP": "status.hostIP", "HOST_IPS": "status.hostIPs", "POD_IP": "status.podIP", "POD_IPS": "status.podIPs"} {
			field(name, path)
		}
		number("CPU", "limits.cpu", "")
		number("CPU_MILLI", "requests.cpu", "1m")
		number("MEMORY", "limits.memory", "1Mi")
	})
	h.want(p, "bound")
	st := h.awaitReady(p)
	got := map[string]bool{}
	log := h.logUntil(p, "main", 0, "end\n")
	for line := range strings.Lines(log) {
		got[strings.TrimSuffix(line, "\n")] = true
	}
	for _, want := range []string{"arg blue $(COLOR) $(NONE)", "COLOR=blue", "SIZE=9", "S_COLOR=red", "BOTH=blue-9-$(NONE)", "KEY=9", "POD=env", "NS=default", "UID_=" + string(p.UID), "TIER=web", "NOTE=hi",
		"NODE=n1", "SA=builder", "HOST_IP=192.0.2.10", "HOST_IPS=192.0.2.10", "POD_IP=" + st.PodIP, "POD_IPS=" + st.PodIP, "CPU=2", "CPU_MILLI=250", "MEMORY=64", "PATH=/bin", "HOSTNAME=env"} {
		if !got[want] {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if strings.Contains(log, "MAYBE") {
		t.Error("an optional key that is not there was set")
	}
	if got, want := h.cgroupFile(p, true, "cpu.shares", "cpu.weight"), "256 17"; !strings.Contains(want, got) {
		t.Errorf("CPU request: %s, want one of %s", got, want)
	}
	for _, f := range [][3]string{{"memory.limit_in_bytes", "memory.max", "67108864"}, {"cpu.cfs_quota_us", "cpu.max", "150000"}} {
		for _, ofContainer := range []bool{true, false} {
			if got := h.cgroupFile(p, ofContainer, f[0], f[1]); !strings.HasPrefix(got, f[2]) {
				t.Errorf("%s: %s, want %s", f[0], got, f[2])
			}
		}
	}
}

// How pods end: by policy, by deadline, by lack of memory; and what their last words are.
func TestRealEnds(t *testing.T) {
	h := newHost(t)
	said := func(name, script string, edit func(*v1.Pod)) *v1.Pod {
		p := shell(name, script, edit)
		h.want(p, "bound")
		return p
	}
	policy := func(policy v1.RestartPolicy) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.RestartPolicy = policy } }
	never := said("never", "exit 3", policy(v1.RestartPolicyNever))
	succeeds := said("on-failure", `[ -f /v/again ] && exit 0; touch /v/again; exit 1`, func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyOnFailure
		p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/v"}}
	})
	loops := said("crash-loops", "echo again; exit 2", policy(v1.RestartPolicyAlways))
	late := said("too-late", "sleep 1000", func(p *v1.Pod) {
		p.Spec.ActiveDeadlineSeconds, p.Spec.TerminationGracePeriodSeconds = ptrTo(int64(2)), ptrTo(int64(1))
	})
	hungry := said("hungry", `dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived`, func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].Command = []string{"/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceMemory: resource.MustParse("16Mi")}
	})
	logged := said("falls-back", "echo the last words; exit 1", func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
	})
	wrote := said("wrote", "echo not this; echo -n this >/dev/other-log; exit 1", func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].TerminationMessagePath = "/dev/other-log"
		p.Spec.Containers[0].TerminationMessagePolicy = v1.TerminationMessageFallbackToLogsOnError
	})
	missing := said("no-command", "", func(p *v1.Pod) {
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.Containers[0].Command = []string{"/bin/nothing-there"}
	})
	end := func(p *v1.Pod, phase v1.PodPhase) (*v1.ContainerStateTerminated, *v1.PodStatus) {
		t.Helper()
		st := h.await(p, string(phase), func(_ string, st *v1.PodStatus) bool { return st.Phase == phase })
		if e := st.ContainerStatuses[0].State.Terminated; e != nil {
			return e, st
		}
		t.Fatalf("%s: %+v", p.Name, st.ContainerStatuses[0].State)
		return nil, nil
	}
	if e, _ := end(never, v1.PodFailed); e.ExitCode != 3 || e.Reason != "Error" {
		t.Errorf("never: %+v", e)
	}
	if e, st := end(succeeds, v1.PodSucceeded); e.ExitCode != 0 || e.Reason != "Completed" || st.ContainerStatuses[0].RestartCount != 1 {
		t.Errorf("on failure: %+v", st.ContainerStatuses[0])
	}
	if e, _ := end(hungry, v1.PodFailed); e.Reason != "OOMKilled" || e.ExitCode != 137 {
		t.Errorf("hungry: %+v", e)
	}
	if e, _ := end(logged, v1.PodFailed); e.Message != "the last words\n" {
		t.Errorf("message: %+v", e)
	}
	if e, _ := end(wrote, v1.PodFailed); e.Message != "this" {
		t.Errorf("message: %+v", e)
	}
	if e, _ := end(missing, v1.PodFailed); e.Reason != "StartError" || e.ExitCode != 128 || !strings.Contains(e.Message, "/bin/nothing-there") {
		t.Errorf("no command: %+v", e)
	}
	if _, st := end(late, v1.PodFailed); st.Reason != "DeadlineExceeded" {
		t.Errorf("too late: %s %s", st.Reason, st.Message)
	}
	st := h.await(loops, "in a crash loop", func(_ string, st *v1.PodStatus) bool {
		w := st.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	cs := st.ContainerStatuses[0]
	want := fmt.Sprintf("back-off 10s restarting failed container=main pod=crash-loops_default(%s)", loops.UID)
	if last := cs.LastTerminationState.Terminated; cs.State.Waiting.Message != want || last == nil || last.ExitCode != 2 || cs.RestartCount != 1 || st.Phase != v1.PodRunning {
		t.Errorf("crash loop: %s %+v", st.Phase, cs)
	}
	if got := h.logOf(loops, "main", 1); got != "again\n" {
		t.Errorf("log of the second attempt: %q", got)
	}
}

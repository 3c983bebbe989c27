//go:build system

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRealInitContainersAndSidecar(t *testing.T) {
	h := newHost(t)
	always := v1.ContainerRestartPolicyAlways
	p := shell("job", `cat /data/made; id; echo why >/dev/termination-log; exit 3`, func(p *v1.Pod) {
		user, group := int64(101), int64(2000)
		mount := []v1.VolumeMount{{Name: "data", MountPath: "/data"}}
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.InitContainers = []v1.Container{
			{Name: "side", Image: "busybox:1", RestartPolicy: &always, Command: []string{"/bin/sh", "-c", `trap "exit 0" TERM; while :; do sleep 0.1; done`}},
			{Name: "make", Image: "busybox:1", Command: []string{"/bin/sh", "-c", "echo by init >/data/made"}, VolumeMounts: mount},
		}
		p.Spec.Containers[0].VolumeMounts = mount
	})
	h.want(p, "bound")
	st := h.await(p, "failed", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	end := st.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 3 || end.Message != "why\n" || end.Reason != "Error" {
		t.Errorf("end %+v", end)
	}
	if got, want := h.logOf(p, "main", 0), "by init\nuid=101(web)"; !strings.HasPrefix(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
	if side := st.InitContainerStatuses[0].State.Terminated; side == nil || side.ExitCode != 0 {
		t.Errorf("sidecar %+v", st.InitContainerStatuses[0].State)
	}
}

func TestRealResize(t *testing.T) {
	h := newHost(t)
	want := func(cpu, memory string) v1.ResourceRequirements {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
		return v1.ResourceRequirements{Requests: list, Limits: list}
	}
	p := shell("grows", "sleep 1000", func(p *v1.Pod) { p.Spec.Containers[0].Resources = want("100m", "32Mi") })
	h.want(p, "bound")
	h.awaitReady(p)
	pid := h.pid(p)
	for _, to := range []struct{ cpu, memory, shares, bytes string }{{"300m", "64Mi", "307", "67108864"}, {"50m", "16Mi", "51", "16777216"}} {
		p.Spec.Containers[0].Resources = want(to.cpu, to.memory)
		p.Generation++
		h.want(p, "resized")
		h.await(p, "resized", func(_ string, st *v1.PodStatus) bool {
			r := st.ContainerStatuses[0].Resources
			return r != nil && r.Limits.Cpu().Cmp(resource.MustParse(to.cpu)) == 0 && podReady(st)
		})
		list, err := h.runtime.Status(t.Context(), string(p.UID))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{list[0].Cgroup, filepath.Dir(list[0].Cgroup)} {
			found := ""
			for _, file := range []string{"/sys/fs/cgroup/memory" + dir + "/memory.limit_in_bytes", "/sys/fs/cgroup" + dir + "/memory.max"} {
				if b, err := os.ReadFile(file); err == nil {
					found = strings.TrimSpace(string(b))
				}
			}
			if found != to.bytes {
				t.Errorf("%s: memory limit %s, want %s", dir, found, to.bytes)
			}
		}
	}
	if now := h.pid(p); now != pid {
		t.Errorf("pid %d, was %d: it was restarted", now, pid)
	}
}

func TestRealEviction(t *testing.T) {
	h := newHost(t)
	limit := resource.MustParse("1Mi")
	p := shell("fat", `trap "exit 0" TERM; dd if=/dev/zero of=/d/x bs=1M count=3; while :; do sleep 0.1; done`, func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &limit}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "d", MountPath: "/d"}}
	})
	h.want(p, "bound")
	h.awaitReady(p)
	begun := time.Now()
	st := h.await(p, "evicted", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	if st.Reason != "Evicted" || !strings.Contains(st.Message, `EmptyDir volume "d" exceeds the limit "1Mi"`) {
		t.Errorf("after %v: %s %s", time.Since(begun), st.Reason, st.Message)
	}
}

//go:build system

package volume

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func setup(t *testing.T, m *Manager, pod *v1.Pod) string {
	t.Helper()
	t.Cleanup(func() {
		if err := m.Teardown(string(pod.UID)); err != nil {
			t.Error(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(mounts), m.dir) {
			t.Error("mounts are left")
		}
		if left, err := m.Pods(); err != nil || len(left) > 0 {
			t.Errorf("folders are left: %v %v", left, err)
		}
	})
	for range 2 { // idempotent
		if err := m.Setup(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := m.Path(pod, pod.Spec.Volumes[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func owner(t *testing.T, path string) (gid uint32, mode uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Gid, st.Mode & 0o7777
}

func TestEmptyDirInMemoryHasItsSizeAndGroup(t *testing.T) {
	m := newManager(t, &shelf{})
	limit, group := resource.MustParse("1Mi"), int64(2000)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory, SizeLimit: &limit}}})
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
	dir := setup(t, m, pod)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.TMPFS_MAGIC || int64(fs.Blocks)*fs.Bsize != 1<<20 {
		t.Errorf("type %x, %d bytes", fs.Type, int64(fs.Blocks)*fs.Bsize)
	}
	if gid, mode := owner(t, dir); gid != 2000 || mode != 0o3777 {
		t.Errorf("group %d mode %o", gid, mode)
	}
}

func TestSecretsLieInMemoryAndBelongToTheGroup(t *testing.T) {
	m := newManager(t, &shelf{secrets: map[string]*v1.Secret{"s": {Data: map[string][]byte{"pw": []byte("x")}}},
		token: func(string, time.Duration) (string, error) { return jwt(time.Now(), time.Now().Add(time.Hour)), nil }})
	group, mode := int64(2000), int32(0o400)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []v1.VolumeProjection{
		{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "s"}}},
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token"}}}}}})
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
	dir := setup(t, m, pod)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Errorf("on file system %x, %v", fs.Type, err)
	}
	for name, want := range map[string]uint32{"pw": 0o440, "token": 0o640} {
		if gid, mode := owner(t, filepath.Join(dir, name)); gid != 2000 || mode != want {
			t.Errorf("%s: group %d mode %o", name, gid, mode)
		}
	}
	if next, err := m.Refresh(t.Context(), pod); err != nil || time.Until(next) < 40*time.Minute {
		t.Errorf("next renewal %v, %v", next, err)
	}
}

func TestSubPathStaysInside(t *testing.T) {
	m := newManager(t, &shelf{})
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	dir := setup(t, m, pod)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": outside, "up": "../../..", "inside": "real"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real/file"), []byte("yes"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{"abs/secret", "abs", "up/etc", "../x", "/etc", "inside/../../x"} {
		if place, err := m.SubPath(pod, "v", "c", i, dir, path); err == nil {
			t.Errorf("%q leads to %s", path, place)
		}
	}
	for i, path := range []string{"inside/file", "real/file"} {
		place, err := m.SubPath(pod, "v", "c", i, dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(place); err != nil || string(b) != "yes" {
			t.Errorf("%q: %q %v", path, b, err)
		}
	}
	for range 2 { // a restarted container binds it anew
		place, err := m.SubPath(pod, "v", "c", 5, dir, "made/deep")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(place, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, mode := owner(t, filepath.Join(dir, "made")); mode != 0o777 {
			t.Errorf("made with mode %o", mode)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "made/deep/f")); err != nil {
		t.Error(err)
	}
}

func TestImageIsShownReadOnly(t *testing.T) {
	var layers []string
	for i, content := range []string{"low", "high"} {
		layer := t.TempDir()
		if err := os.WriteFile(filepath.Join(layer, "both"), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(layer, "only"+content), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer)
		t.Run([]string{"one layer", "two layers"}[i], func(t *testing.T) {
			m := newManager(t, &shelf{layers: layers})
			dir := setup(t, m, podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "x"}}}))
			if b, err := os.ReadFile(filepath.Join(dir, "both")); err != nil || string(b) != content {
				t.Errorf("%q %v", b, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "onlylow")); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err == nil {
				t.Error("the image can be written to")
			}
			if err := exec.Command(filepath.Join(dir, "both")).Run(); !errors.Is(err, os.ErrPermission) {
				t.Errorf("executing: %v", err)
			}
		})
	}
}

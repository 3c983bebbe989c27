package volume

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// shelf is where the test's volumes come from.
type shelf struct {
	maps    map[string]*v1.ConfigMap
	secrets map[string]*v1.Secret
	layers  []string
	token   func(audience string, lifetime time.Duration) (string, error)
}

func (s *shelf) ConfigMap(_, name string) (*v1.ConfigMap, error) {
	if cm := s.maps[name]; cm != nil {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (s *shelf) Secret(_, name string) (*v1.Secret, error) {
	if x := s.secrets[name]; x != nil {
		return x, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func (s *shelf) Token(_ context.Context, _ *v1.Pod, audience string, lifetime time.Duration) (string, error) {
	return s.token(audience, lifetime)
}

func (s *shelf) ImageLayers(string) ([]string, error) { return s.layers, nil }

func (s *shelf) Allocatable() v1.ResourceList { return nil }

func newManager(t *testing.T, s *shelf) *Manager {
	t.Helper()
	m, err := New(filepath.Join(t.TempDir(), "volumes"), s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func podWith(volumes ...v1.Volume) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "u1", Labels: map[string]string{"b": "2", "a": `say "hi"`}},
		Spec: v1.PodSpec{Volumes: volumes}}
}

func configMapVolume(name string, optional bool, items ...v1.KeyToPath) v1.Volume {
	return v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: name}, Optional: &optional, Items: items}}}
}

// tree lists what a folder shows, followed through its links: path, mode and content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, "..") {
			return err
		}
		full := filepath.Join(dir, path)
		info, err := os.Stat(full)
		if err != nil {
			return err
		}
		if info.IsDir() {
			out = append(out, path+"/ "+tree(t, full))
			return nil
		}
		b, err := os.ReadFile(full)
		out = append(out, fmt.Sprintf("%s %o %s", path, info.Mode().Perm(), b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "; ")
}

func TestConfigMap(t *testing.T) {
	cm := &v1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0xff}}}
	mode := int32(0o400)
	for _, c := range []struct {
		name string
		v    v1.Volume
		want string // or the error
	}{
		{"all keys", configMapVolume("cm", false), "a 644 1; b 644 2; c 644 \xff"},
		{"items", configMapVolume("cm", false, v1.KeyToPath{Key: "a", Path: "x/y/a.txt"}, v1.KeyToPath{Key: "b", Path: "b", Mode: &mode}), "b 400 2; x/ y/a.txt 644 1"},
		{"missing key", configMapVolume("cm", false, v1.KeyToPath{Key: "z", Path: "z"}), "references non-existent config key: z"},
		{"missing key, optional", configMapVolume("cm", true, v1.KeyToPath{Key: "z", Path: "z"}), ""},
		{"missing", configMapVolume("no", false), `MountVolume.SetUp failed for volume "v" : configmap "no" not found`},
		{"missing, optional", configMapVolume("no", true), ""},
		{"path that leads out", configMapVolume("cm", false, v1.KeyToPath{Key: "a", Path: "../a"}), "must be relative"},
		{"path of our own", configMapVolume("cm", false, v1.KeyToPath{Key: "a", Path: "..data/a"}), "must be relative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newManager(t, &shelf{maps: map[string]*v1.ConfigMap{"cm": cm}})
			pod := podWith(c.v)
			if err := m.Setup(t.Context(), pod); err != nil {
				if !strings.Contains(err.Error(), c.want) || c.want == "" {
					t.Fatalf("error %v, want %q", err, c.want)
				}
				return
			}
			dir, err := m.Path(pod, "v")
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); got != c.want {
				t.Errorf("shows %q, want %q", got, c.want)
			}
		})
	}
}

// A reader that holds ..data sees one version as a whole; what is gone disappears; what is the same is not touched.
func TestUpdateIsAtomic(t *testing.T) {
	s := &shelf{maps: map[string]*v1.ConfigMap{"cm": {Data: map[string]string{"a": "1", "b": "1"}}}}
	m := newManager(t, s)
	pod := podWith(configMapVolume("cm", false))
	if err := m.Setup(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.Path(pod, "v")
	first, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Readlink(filepath.Join(dir, "..data")); again != first {
		t.Error("written anew though nothing changed")
	}
	s.maps["cm"] = &v1.ConfigMap{Data: map[string]string{"a": "2", "c": "2"}}
	if _, err := m.Refresh(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), "a 644 2; c 644 2"; got != want {
		t.Errorf("shows %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, first)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old version is still there: %v", err)
	}
	delete(s.maps, "cm")
	if _, err := m.Refresh(t.Context(), pod); err == nil {
		t.Error("no error for a source that is gone")
	}
	if got, want := tree(t, dir), "a 644 2; c 644 2"; got != want {
		t.Errorf("after the source is gone it shows %q, want %q", got, want)
	}
}

func TestDownwardAPI(t *testing.T) {
	m := newManager(t, &shelf{})
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{Items: []v1.DownwardAPIVolumeFile{
		{Path: "labels", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		{Path: "one", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.labels['b']"}}}}}})
	if err := m.Setup(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	dir, _ := m.Path(pod, "v")
	if got, want := tree(t, dir), "labels 644 a=\"say \\\"hi\\\"\"\nb=\"2\"; one 644 2"; got != want {
		t.Errorf("shows %q, want %q", got, want)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		kind v1.HostPathType
		want string
	}{
		{dir, v1.HostPathDirectory, ""},
		{file, v1.HostPathFile, ""},
		{file, v1.HostPathDirectory, "is not a directory"},
		{dir, v1.HostPathFile, "is not a file"},
		{file, v1.HostPathSocket, "is not a socket file"},
		{"/dev/null", v1.HostPathCharDev, ""},
		{"/dev/null", v1.HostPathBlockDev, "is not a block device"},
		{filepath.Join(dir, "none"), v1.HostPathDirectory, "no such file"},
		{filepath.Join(dir, "made"), v1.HostPathDirectoryOrCreate, ""},
		{filepath.Join(dir, "touched"), v1.HostPathFileOrCreate, ""},
		{filepath.Join(dir, "unset"), v1.HostPathUnset, ""},
		{"relative", v1.HostPathUnset, "must be absolute"},
	} {
		err := hostPath(&v1.HostPathVolumeSource{Path: c.path, Type: &c.kind})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s as %q: %v, want %q", c.path, c.kind, err, c.want)
		}
	}
}

func TestClaimsAreRefusedClearly(t *testing.T) {
	m := newManager(t, &shelf{})
	err := m.Setup(t.Context(), podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}))
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), `persistentVolumeClaim "data"`) {
		t.Errorf("error %v", err)
	}
}

func jwt(begin, end time.Time) string {
	claims := fmt.Sprintf(`{"iat":%d,"exp":%d}`, begin.Unix(), end.Unix())
	return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
}

// A token is renewed after 80% of its life; while it cannot be, the old one stays until its end.
func TestTokenRenewal(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	asked := 0
	down := false
	s := &shelf{token: func(audience string, lifetime time.Duration) (string, error) {
		asked++
		if down {
			return "", errors.New("no API")
		}
		return jwt(now, now.Add(lifetime)), nil
	}}
	m := newManager(t, s)
	m.now = func() time.Time { return now }
	seconds := int64(1000)
	source := &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}
	dir := t.TempDir()
	project := func() error {
		files := map[string]file{}
		if err := m.token(t.Context(), files, podWith(), source, nil, dir); err != nil {
			return err
		}
		return write(dir, files, -1, now)
	}
	at := func(d time.Duration, wantAsked int, wantErr bool) {
		t.Helper()
		now = time.Unix(1_800_000_000, 0).Add(d)
		if err := project(); (err != nil) != wantErr {
			t.Errorf("after %v: error %v", d, err)
		}
		if asked != wantAsked {
			t.Errorf("after %v: asked %d times, want %d", d, asked, wantAsked)
		}
	}
	at(0, 1, false)
	v := &v1.Volume{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ServiceAccountToken: source}}}}}
	if next := m.nextToken(v, dir); next.Sub(now) != 800*time.Second {
		t.Errorf("next renewal in %v, want 800s", next.Sub(now))
	}
	at(700*time.Second, 1, false)
	at(800*time.Second, 2, false)
	down = true
	at(1600*time.Second, 3, false)
	at(1801*time.Second, 4, true)
}

// TestTokenBelongsToWhoRuns: its user, where all containers have one, with and without a group for volumes.
func TestTokenBelongsToWhoRuns(t *testing.T) {
	m := newManager(t, &shelf{token: func(string, time.Duration) (string, error) { return "t", nil }})
	user, group := int64(1000), int64(2000)
	for name, c := range map[string]struct {
		user, group *int64
		want        file
	}{
		"neither": {nil, nil, file{[]byte("t"), 0o644, -1}},
		"user":    {&user, nil, file{[]byte("t"), 0o600, 1000}},
		"group":   {nil, &group, file{[]byte("t"), 0o600, -1}},
		"both":    {&user, &group, file{[]byte("t"), 0o600, 1000}},
	} {
		pod := podWith()
		pod.Spec.Containers = []v1.Container{{Name: "main"}}
		pod.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: c.user, FSGroup: c.group}
		files := map[string]file{}
		if err := m.token(t.Context(), files, pod, &v1.ServiceAccountTokenProjection{Path: "token"}, nil, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if got := files["token"]; got.mode != c.want.mode || got.owner != c.want.owner {
			t.Errorf("%s: mode %o, owner %d; want %o, %d", name, got.mode, got.owner, c.want.mode, c.want.owner)
		}
	}
}

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/volume/downward"
)

// Sources is where volumes' contents come from. A missing object is an error that apimachinery's
// apierrors.IsNotFound recognises.
type Sources interface {
	ConfigMap(namespace, name string) (*v1.ConfigMap, error)
	Secret(namespace, name string) (*v1.Secret, error)
	// Token requests a service account token bound to the pod.
	Token(ctx context.Context, pod *v1.Pod, audience string, lifetime time.Duration) (string, error)
	// ImageLayers are the unpacked layers of an image that is here, lowest first.
	ImageLayers(reference string) ([]string, error)
	// Allocatable is what resource fields without a limit stand for.
	Allocatable() v1.ResourceList
}

// Manager makes and removes the volumes of pods. Calls about one pod come one at a time.
type Manager struct {
	dir     string
	sources Sources
	now     func() time.Time
}

// New returns a manager that keeps its volumes in dir.
func New(dir string, sources Sources) (*Manager, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("volume folder: %w", err)
	}
	return &Manager{dir: dir, sources: sources, now: time.Now}, nil
}

// ErrUnsupported: a volume of a kind that this node cannot make.
var ErrUnsupported = errors.New("unsupported volume")

// Dir is the folder of all volumes of a pod.
func (m *Manager) Dir(uid string) string { return m.podDir(uid) }

func (m *Manager) podDir(uid string) string { return filepath.Join(m.dir, uid) }

func (m *Manager) volumeDir(uid, name string) string {
	return filepath.Join(m.podDir(uid), "volumes", name)
}

// Path is where a volume's content lies on the node.
func (m *Manager) Path(pod *v1.Pod, name string) (string, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Name != name {
			continue
		}
		if v.HostPath != nil {
			return v.HostPath.Path, nil
		}
		return m.volumeDir(string(pod.UID), name), nil
	}
	return "", fmt.Errorf("volume %q: the pod has none of this name", name)
}

// Setup makes all volumes of a pod. It may be called again after a failure, or when all is there.
func (m *Manager) Setup(ctx context.Context, pod *v1.Pod) error {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if err := m.setup(ctx, pod, v); err != nil {
			return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err)
		}
	}
	return nil
}

func (m *Manager) setup(ctx context.Context, pod *v1.Pod, v *v1.Volume) error {
	dir := m.volumeDir(string(pod.UID), v.Name)
	switch {
	case v.HostPath != nil:
		return hostPath(v.HostPath)
	case v.EmptyDir != nil:
		return emptyDir(dir, v.EmptyDir, pod)
	case isProjection(v):
		return m.project(ctx, pod, v, dir)
	case v.Image != nil:
		layers, err := m.sources.ImageLayers(v.Image.Reference)
		if err != nil {
			return err
		}
		return image(dir, layers)
	case v.PersistentVolumeClaim != nil:
		return fmt.Errorf("%w: persistentVolumeClaim %q: this node has no storage for claims", ErrUnsupported, v.PersistentVolumeClaim.ClaimName)
	}
	return fmt.Errorf("%w: use emptyDir, hostPath, configMap, secret, downwardAPI, projected or image", ErrUnsupported)
}

func isProjection(v *v1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// inMemory: the volume may hold secrets.
func inMemory(v *v1.Volume) bool { return v.Secret != nil || v.Projected != nil }

// project writes the content of a configMap, secret, downwardAPI or projected volume.
func (m *Manager) project(ctx context.Context, pod *v1.Pod, v *v1.Volume, dir string) error {
	files, err := m.payload(ctx, pod, v, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if inMemory(v) {
		if err := mountTmpfs(dir, ""); err != nil {
			return err
		}
	}
	return write(dir, files, fsGroup(pod), m.now())
}

// Refresh writes what has changed in the sources of a pod's volumes, and renews tokens that age. It returns when
// the next token wants to be renewed (zero: none) and all errors; a volume whose source fails keeps its content.
func (m *Manager) Refresh(ctx context.Context, pod *v1.Pod) (next time.Time, err error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !isProjection(v) {
			continue
		}
		dir := m.volumeDir(string(pod.UID), v.Name)
		if err := m.project(ctx, pod, v, dir); err != nil {
			errs = append(errs, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err))
		}
		if at := m.nextToken(v, dir); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, errors.Join(errs...)
}

// Teardown unmounts and removes all volumes of a pod. It is idempotent. Nothing outside the pod's folder is
// touched, hostPaths least of all.
func (m *Manager) Teardown(uid string) error {
	dir := m.podDir(uid)
	if err := unmountUnder(dir); err != nil {
		return fmt.Errorf("volumes of pod %s: %w", uid, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("volumes of pod %s: %w", uid, err)
	}
	return nil
}

// Pods lists the uids of pods that have volumes here.
func (m *Manager) Pods() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("volume folder: %w", err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}

func (m *Manager) downward(pod *v1.Pod) downward.Fields {
	return downward.Fields{Pod: pod, Allocatable: m.sources.Allocatable()}
}

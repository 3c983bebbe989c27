package volume

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// file is one file of a projection. Owner is a user id, -1 for root.
type file struct {
	data  []byte
	mode  uint32
	owner int
}

// payload collects the files of a volume by their path inside it.
func (m *Manager) payload(ctx context.Context, pod *v1.Pod, v *v1.Volume, dir string) (map[string]file, error) {
	files := map[string]file{}
	var err error
	switch {
	case v.ConfigMap != nil:
		err = m.configMap(files, pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
	case v.Secret != nil:
		err = m.secret(files, pod.Namespace, v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
	case v.DownwardAPI != nil:
		err = m.fields(files, pod, v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	case v.Projected != nil:
		err = m.projected(ctx, files, pod, v.Projected, dir)
	}
	if err != nil {
		return nil, err
	}
	for path := range files {
		if !filepath.IsLocal(path) || len(path) >= 2 && path[:2] == ".." {
			return nil, fmt.Errorf("path %q: must be relative, inside the volume, and not start with '..'", path)
		}
	}
	return files, nil
}

func modeOf(item, byDefault *int32, fallback int32) uint32 {
	switch {
	case item != nil:
		return uint32(*item)
	case byDefault != nil:
		return uint32(*byDefault)
	}
	return uint32(fallback)
}

func isTrue(b *bool) bool { return b != nil && *b }

func (m *Manager) configMap(files map[string]file, namespace, name string, items []v1.KeyToPath, mode *int32, optional *bool) error {
	cm, err := m.sources.ConfigMap(namespace, name)
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil
	}
	if err != nil {
		return err
	}
	content := map[string][]byte{}
	for k, s := range cm.Data {
		content[k] = []byte(s)
	}
	maps.Copy(content, cm.BinaryData)
	return pick(files, content, items, mode, isTrue(optional), "config")
}

func (m *Manager) secret(files map[string]file, namespace, name string, items []v1.KeyToPath, mode *int32, optional *bool) error {
	s, err := m.sources.Secret(namespace, name)
	if apierrors.IsNotFound(err) && isTrue(optional) {
		return nil
	}
	if err != nil {
		return err
	}
	return pick(files, s.Data, items, mode, isTrue(optional), "secret")
}

// pick maps keys to paths; without items every key is a file of its own name.
func pick(files map[string]file, content map[string][]byte, items []v1.KeyToPath, mode *int32, optional bool, what string) error {
	if len(items) == 0 {
		for _, k := range slices.Sorted(maps.Keys(content)) {
			files[k] = file{data: content[k], mode: modeOf(nil, mode, v1.ConfigMapVolumeSourceDefaultMode), owner: -1}
		}
		return nil
	}
	for _, item := range items {
		data, ok := content[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent %s key: %s", what, item.Key)
		}
		files[filepath.Clean(item.Path)] = file{data: data, mode: modeOf(item.Mode, mode, v1.ConfigMapVolumeSourceDefaultMode), owner: -1}
	}
	return nil
}

func (m *Manager) fields(files map[string]file, pod *v1.Pod, items []v1.DownwardAPIVolumeFile, mode *int32) error {
	f := m.downward(pod)
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = f.Field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = f.Resource(item.ResourceFieldRef, "")
		}
		if err != nil {
			return fmt.Errorf("path %q: %w", item.Path, err)
		}
		files[filepath.Clean(item.Path)] = file{data: []byte(value), mode: modeOf(item.Mode, mode, v1.DownwardAPIVolumeSourceDefaultMode), owner: -1}
	}
	return nil
}

func (m *Manager) projected(ctx context.Context, files map[string]file, pod *v1.Pod, p *v1.ProjectedVolumeSource, dir string) error {
	for i := range p.Sources {
		s := &p.Sources[i]
		var err error
		switch {
		case s.ConfigMap != nil:
			err = m.configMap(files, pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Items, p.DefaultMode, s.ConfigMap.Optional)
		case s.Secret != nil:
			err = m.secret(files, pod.Namespace, s.Secret.Name, s.Secret.Items, p.DefaultMode, s.Secret.Optional)
		case s.DownwardAPI != nil:
			err = m.fields(files, pod, s.DownwardAPI.Items, p.DefaultMode)
		case s.ServiceAccountToken != nil:
			err = m.token(ctx, files, pod, s.ServiceAccountToken, p.DefaultMode, dir)
		default:
			err = fmt.Errorf("%w: projected source %d: use configMap, secret, downwardAPI or serviceAccountToken", ErrUnsupported, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

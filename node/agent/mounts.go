package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/runc"
)

// mounts are a container's volumes, then the files that the agent keeps for it where no volume takes their place.
func (w *worker) mounts(pod *v1.Pod, c *v1.Container, attempt int) ([]runc.Mount, error) {
	var out []runc.Mount
	taken := map[string]bool{}
	for i := range c.VolumeMounts {
		m, err := w.volumeMount(pod, c, i)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		taken[filepath.Clean(m.Target)] = true
	}
	readOnly := c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
	etc := filepath.Join(w.a.records.podDir(w.uid), "etc")
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		target := "/etc/" + name
		if !taken[target] {
			out = append(out, runc.Mount{Source: filepath.Join(etc, name), Target: target, ReadOnly: readOnly})
		}
	}
	if c.TerminationMessagePath != "" {
		path := w.messagePath(c.Name, attempt)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return nil, err
		}
		if err := os.Chmod(path, 0o666); err != nil { // past the umask
			return nil, err
		}
		out = append(out, runc.Mount{Source: path, Target: c.TerminationMessagePath})
	}
	return out, nil
}

// messagePath is where an attempt leaves its termination message.
func (w *worker) messagePath(container string, attempt int) string {
	return filepath.Join(w.a.records.containerDir(w.uid, container), strconv.Itoa(attempt))
}

func (w *worker) volumeMount(pod *v1.Pod, c *v1.Container, index int) (runc.Mount, error) {
	vm := &c.VolumeMounts[index]
	fail := func(err error) (runc.Mount, error) {
		return runc.Mount{}, fmt.Errorf("volumeMount %q: %w", vm.Name, err)
	}
	source, err := w.a.volumes.Path(pod, vm.Name)
	if err != nil {
		return fail(err)
	}
	path := vm.SubPath
	if vm.SubPathExpr != "" {
		services, err := w.a.sources.services(pod.Namespace)
		if err != nil {
			return fail(err)
		}
		env, err := spec.Env(c, w.fields(pod), w.a.sources, spec.ServiceVars(pod, services))
		if err != nil {
			return fail(err)
		}
		if path, err = expandStrict(vm.SubPathExpr, env); err != nil {
			return fail(err)
		}
	}
	if path != "" {
		if source, err = w.a.volumes.SubPath(pod, vm.Name, c.Name, index, source, path); err != nil {
			return fail(err)
		}
	}
	m := runc.Mount{Source: source, Target: vm.MountPath, ReadOnly: vm.ReadOnly}
	if !filepath.IsAbs(m.Target) {
		m.Target = "/" + m.Target
	}
	if vm.MountPropagation != nil && *vm.MountPropagation != v1.MountPropagationNone {
		m.Propagation = runc.Propagation(*vm.MountPropagation)
	}
	if vm.RecursiveReadOnly != nil && vm.ReadOnly && *vm.RecursiveReadOnly != v1.RecursiveReadOnlyDisabled {
		m.RecursiveReadOnly = true
	}
	for i := range pod.Spec.Volumes { // these show what others decide: never written to by the pod
		v := &pod.Spec.Volumes[i]
		if v.Name == vm.Name && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil) {
			m.ReadOnly = true
		}
		if v.Name == vm.Name && v.Image != nil {
			m.ReadOnly, m.Options = true, []string{"noexec"}
		}
	}
	return m, nil
}

// expandStrict expands a subPathExpr, in which every name must be known.
func expandStrict(text string, env []spec.Var) (string, error) {
	unknown := ""
	out := spec.Expand(text, func(name string) (string, bool) {
		for _, v := range env {
			if v.Name == name {
				return v.Value, true
			}
		}
		unknown = name
		return "", false
	})
	if unknown != "" {
		return "", &spec.ConfigError{Err: fmt.Errorf("subPathExpr %q: %s is not in the container's environment", text, unknown)}
	}
	return out, nil
}

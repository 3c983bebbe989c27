package agent

import (
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/runc"
)

// securityOf joins the pod's and the container's security contexts. Profiles of type Localhost are files in
// <dir>/seccomp. A pod that asks for no profile gets the runtime's where confined says so.
func securityOf(pod *v1.Pod, c *v1.Container, dir string, confined bool) runc.Security {
	s := runc.Security{AllowPrivilegeEscalation: true, Seccomp: runc.SeccompUnconfined}
	profile := (*v1.SeccompProfile)(nil)
	if sc := pod.Spec.SecurityContext; sc != nil {
		profile = sc.SeccompProfile
	}
	sc := c.SecurityContext
	if sc != nil {
		isTrue := func(b *bool) bool { return b != nil && *b }
		s.Privileged, s.ReadOnlyRoot = isTrue(sc.Privileged), isTrue(sc.ReadOnlyRootFilesystem)
		if sc.AllowPrivilegeEscalation != nil {
			s.AllowPrivilegeEscalation = *sc.AllowPrivilegeEscalation
		}
		if sc.Capabilities != nil {
			for _, x := range sc.Capabilities.Add {
				s.AddCapabilities = append(s.AddCapabilities, string(x))
			}
			for _, x := range sc.Capabilities.Drop {
				s.DropCapabilities = append(s.DropCapabilities, string(x))
			}
		}
		if sc.ProcMount != nil && *sc.ProcMount == v1.UnmaskedProcMount {
			s.MaskedPaths, s.ReadonlyPaths = []string{}, []string{}
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
	}
	if profile == nil && confined && !s.Privileged {
		s.Seccomp = runc.SeccompRuntimeDefault
	}
	if profile != nil && !s.Privileged {
		switch profile.Type {
		case v1.SeccompProfileTypeRuntimeDefault:
			s.Seccomp = runc.SeccompRuntimeDefault
		case v1.SeccompProfileTypeLocalhost:
			if profile.LocalhostProfile != nil {
				s.Seccomp = "Localhost:" + filepath.Join(dir, "seccomp", filepath.Clean("/"+*profile.LocalhostProfile))
			}
		}
	}
	return s
}

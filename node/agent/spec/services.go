package spec

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// ServiceVars are the variables by which a pod finds services without DNS: those of the service kubernetes, and
// where the pod wants service links, those of all services of its namespace that have an address.
func ServiceVars(pod *v1.Pod, services []*v1.Service) []Var {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	byName := map[string]*v1.Service{}
	for _, s := range services {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		if s.Namespace == pod.Namespace && links {
			byName[s.Name] = s
		}
	}
	for _, s := range services {
		if s.Namespace == v1.NamespaceDefault && s.Name == "kubernetes" && byName["kubernetes"] == nil && s.Spec.ClusterIP != "" {
			byName[s.Name] = s
		}
	}
	list := make([]*v1.Service, 0, len(byName))
	for _, s := range byName {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *v1.Service) int { return cmp.Compare(a.Name, b.Name) })
	var out []Var
	for _, s := range list {
		out = append(out, serviceVars(s)...)
	}
	return out
}

func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func serviceVars(s *v1.Service) []Var {
	name, ip := envName(s.Name), s.Spec.ClusterIP
	first := strconv.Itoa(int(s.Spec.Ports[0].Port))
	out := []Var{{name + "_SERVICE_HOST", ip}, {name + "_SERVICE_PORT", first}}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out = append(out, Var{name + "_SERVICE_PORT_" + envName(p.Name), strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(cmp.Or(p.Protocol, v1.ProtocolTCP))
		port := strconv.Itoa(int(p.Port))
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, port)
		prefix := fmt.Sprintf("%s_PORT_%s_%s", name, port, protocol)
		if i == 0 {
			out = append(out, Var{name + "_PORT", url})
		}
		out = append(out, Var{prefix, url}, Var{prefix + "_PROTO", strings.ToLower(protocol)},
			Var{prefix + "_PORT", port}, Var{prefix + "_ADDR", ip})
	}
	return out
}

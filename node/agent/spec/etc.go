package spec

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Hostname is the pod's host name and domain (may be ""). node is the node's own host name.
func Hostname(pod *v1.Pod, node, clusterDomain string) (host, domain string) {
	if pod.Spec.HostNetwork && pod.Spec.HostnameOverride == nil {
		return node, ""
	}
	host = pod.Name
	if pod.Spec.Hostname != "" {
		host = pod.Spec.Hostname
	}
	if len(host) > 63 {
		host = strings.TrimRight(host[:63], "-.")
	}
	if pod.Spec.Subdomain != "" {
		domain = strings.Join([]string{pod.Spec.Subdomain, pod.Namespace, "svc", clusterDomain}, ".")
	}
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride, ""
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && domain != "" {
		return host + "." + domain, ""
	}
	return host, domain
}

// Hosts is the content of /etc/hosts. nodeHosts is the node's file, for pods on its network.
func Hosts(pod *v1.Pod, ips []string, host, domain string, nodeHosts []byte) []byte {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n")
		b.Write(nodeHosts)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, host, domain, host)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, host)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return []byte(b.String())
}

// DNS is the content of a resolv.conf.
type DNS struct {
	Servers, Searches, Options []string
}

// ParseResolv reads a resolv.conf.
func ParseResolv(text string) DNS {
	var d DNS
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' || f[0][0] == ';' {
			continue
		}
		switch f[0] {
		case "nameserver":
			d.Servers = append(d.Servers, f[1])
		case "search":
			d.Searches = f[1:] // the last line counts
		case "options":
			d.Options = append(d.Options, f[1:]...)
		}
	}
	return d
}

// String formats a resolv.conf.
func (d DNS) String() string {
	var b strings.Builder
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.String()
}

// PodDNS is a pod's resolver configuration by its dnsPolicy and dnsConfig. cluster is the cluster's DNS address
// ("": none), node the node's own configuration.
func PodDNS(pod *v1.Pod, cluster, clusterDomain string, node DNS) DNS {
	policy := pod.Spec.DNSPolicy
	if policy == v1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = v1.DNSDefault
	}
	var d DNS
	switch policy {
	case v1.DNSNone:
	case v1.DNSClusterFirst, v1.DNSClusterFirstWithHostNet, "":
		if cluster == "" {
			d = node
			break
		}
		d.Servers = []string{cluster}
		d.Searches = []string{pod.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}
		d.Searches = append(d.Searches, node.Searches...)
		d.Options = []string{"ndots:5"}
	default:
		d = node
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d = DNS{append(slices.Clone(d.Servers), c.Nameservers...), append(slices.Clone(d.Searches), c.Searches...), mergeOptions(d.Options, c.Options)}
	}
	return DNS{unique(d.Servers), unique(d.Searches), d.Options}
}

func mergeOptions(base []string, add []v1.PodDNSConfigOption) []string {
	out := slices.Clone(base)
	for _, o := range add {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(out, func(s string) bool { return before(s, ':') == o.Name })
		if i >= 0 {
			out[i] = text
		} else {
			out = append(out, text)
		}
	}
	return out
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

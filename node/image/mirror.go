package image

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// ParseMirrors reads mirrors as people write them, each REGISTRY=MIRROR; several of one registry are asked in that
// order. The result is for PullOptions.
func ParseMirrors(list []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, text := range list {
		host, mirror, both := strings.Cut(text, "=")
		if !both || host == "" || mirror == "" {
			return nil, fmt.Errorf("image: mirror %q: want REGISTRY=MIRROR, such as docker.io=mirror.example.com", text)
		}
		at := strings.TrimPrefix(strings.TrimPrefix(mirror, "https://"), "http://")
		at, _, _ = strings.Cut(at, "/")
		for _, h := range []string{host, at} {
			if _, err := name.NewRegistry(h); err != nil || h == "" {
				return nil, fmt.Errorf("image: mirror %q: %q is no host or host:port", text, h)
			}
		}
		out[host] = append(out[host], mirror)
	}
	return out, nil
}

package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// credential is one entry of a docker configuration.
type credential struct {
	host string // may have globs in its labels, as kubelets allow: *.registry.example.com
	path string // "" or the beginning of a repository's path
	auth authn.AuthConfig
}

// parseDockerConfigs reads docker configurations, each the content of a config.json ({"auths": ...}) or of the older
// .dockercfg (the inner object alone), as image pull secrets hold them. The most specific entries come first.
func parseDockerConfigs(configs [][]byte) ([]credential, error) {
	var out []credential
	for i, data := range configs {
		var file struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		err := json.Unmarshal(data, &file)
		if err == nil && file.Auths == nil {
			err = json.Unmarshal(data, &file.Auths)
		}
		if err != nil {
			// The error itself might quote a password.
			return nil, fmt.Errorf("image: %w: docker configuration %d is not valid JSON", ErrUnauthorized, i)
		}
		for key, auth := range file.Auths {
			host, path := splitServer(key)
			out = append(out, credential{host, path, auth})
		}
	}
	slices.SortStableFunc(out, func(a, b credential) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), strings.Compare(b.host, a.host))
	})
	return out, nil
}

// splitServer takes apart a key of "auths", which may be a host, a host and a path, or a URL.
func splitServer(key string) (host, path string) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ = strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	if path == "v1" || path == "v2" { // the API, not a repository
		path = ""
	}
	return host, path
}

// candidates returns the credentials to try for a repository, anonymous last.
func candidates(all []credential, host, repository string) []authn.Authenticator {
	var out []authn.Authenticator
	for _, c := range all {
		inPath := c.path == "" || c.path == repository || strings.HasPrefix(repository, c.path+"/")
		if matchHost(c.host, host) && inPath {
			out = append(out, authn.FromConfig(c.auth))
		}
	}
	return append(out, authn.Anonymous)
}

// matchHost compares hosts label by label; a pattern's port must be the host's.
func matchHost(pattern, host string) bool {
	patternName, patternPort, _ := strings.Cut(pattern, ":")
	hostName, hostPort, _ := strings.Cut(host, ":")
	patterns, labels := strings.Split(patternName, "."), strings.Split(hostName, ".")
	if patternPort != hostPort || len(patterns) != len(labels) {
		return false
	}
	for i := range patterns {
		if ok, err := path.Match(patterns[i], labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

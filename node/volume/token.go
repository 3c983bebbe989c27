package volume

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

const (
	defaultLifetime = time.Hour
	// longestUse: a token is renewed after a day, however long it would live.
	longestUse = 24 * time.Hour
	// retryToken is when a token that could not be renewed is tried again.
	retryToken = 30 * time.Second
)

// token adds a service account token: the one in place while it is young, otherwise a new one. If none can be had
// and the old one has not ended, the old one stays.
func (m *Manager) token(ctx context.Context, files map[string]file, pod *v1.Pod, t *v1.ServiceAccountTokenProjection, mode *int32, dir string) error {
	path := filepath.Clean(t.Path)
	old, errOld := os.ReadFile(filepath.Join(dir, path))
	life := lifetimeOf(string(old))
	now := m.now()
	value := string(old)
	if errOld != nil || !now.Before(life.renew()) {
		lifetime := defaultLifetime
		if t.ExpirationSeconds != nil {
			lifetime = time.Duration(*t.ExpirationSeconds) * time.Second
		}
		fresh, err := m.sources.Token(ctx, pod, t.Audience, lifetime)
		if err != nil {
			if errOld != nil || !now.Before(life.end) {
				return err
			}
			fresh = value
		}
		value = fresh
	}
	f := file{data: []byte(value), mode: modeOf(nil, mode, v1.ProjectedVolumeSourceDefaultMode), owner: -1}
	// A token is readable by the one who runs: by the user, if all containers agree on one, and by the group (see fill),
	// if there is an fsGroup.
	uid, one := oneUser(pod)
	if one {
		f.owner = uid
	}
	if one || fsGroup(pod) >= 0 {
		f.mode = 0o600
	}
	files[path] = f
	return nil
}

// oneUser is the user that all containers of a pod run as, if it is known and the same.
func oneUser(pod *v1.Pod) (int, bool) {
	byPod := -1
	if sc := pod.Spec.SecurityContext; sc != nil && sc.RunAsUser != nil {
		byPod = int(*sc.RunAsUser)
	}
	user := -2
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			u := byPod
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				u = int(*sc.RunAsUser)
			}
			if user == -2 {
				user = u
			}
			if u != user {
				return 0, false
			}
		}
	}
	return user, user >= 0
}

// lifetime is the time from a token's making to its end.
type lifetime struct{ begin, end time.Time }

// renew is when a token should be replaced: after 80% of its life, a day at most.
func (l lifetime) renew() time.Time {
	return l.begin.Add(min(l.end.Sub(l.begin)*8/10, longestUse))
}

// lifetimeOf reads a JWT's iat and exp without checking it: the zero lifetime where it has none.
func lifetimeOf(token string) lifetime {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return lifetime{}
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return lifetime{}
	}
	var c struct {
		Begin int64 `json:"iat"`
		End   int64 `json:"exp"`
	}
	if json.Unmarshal(b, &c) != nil || c.End == 0 {
		return lifetime{}
	}
	return lifetime{time.Unix(c.Begin, 0), time.Unix(c.End, 0)}
}

// nextToken is when the first token of a volume wants to be renewed; zero where it has none.
func (m *Manager) nextToken(v *v1.Volume, dir string) (next time.Time) {
	if v.Projected == nil {
		return next
	}
	for _, s := range v.Projected.Sources {
		if s.ServiceAccountToken == nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.Clean(s.ServiceAccountToken.Path)))
		at := lifetimeOf(string(b)).renew()
		if soon := m.now().Add(retryToken); err != nil || at.Before(soon) {
			at = soon
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

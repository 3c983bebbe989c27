package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestNormalize(t *testing.T) {
	sum := digest.FromString("x").String()
	for in, want := range map[string]string{
		"nginx":                        "docker.io/library/nginx:latest",
		"nginx:1.27":                   "docker.io/library/nginx:1.27",
		"docker.io/nginx":              "docker.io/library/nginx:latest",
		"index.docker.io/library/a":    "docker.io/library/a:latest",
		"bitnami/redis":                "docker.io/bitnami/redis:latest",
		"registry.example.com/a":       "registry.example.com/a:latest",
		"localhost/a":                  "localhost/a:latest",
		"127.0.0.1:5000/a/b:c":         "127.0.0.1:5000/a/b:c",
		"nginx:1.27@" + sum:            "docker.io/library/nginx@" + sum,
		"registry.k8s.io/pause@" + sum: "registry.k8s.io/pause@" + sum,
	} {
		if got, err := Normalize(in); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "UPPER", "a b", "a:", "a@sha256:12", "http://a/b", "-a"} {
		if got, err := Normalize(in); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestFind(t *testing.T) {
	sum := digest.FromString
	x := &index{Images: []entry{
		{Ref: "docker.io/library/nginx:latest", ID: sum("a"), Manifest: sum("ma"), Digest: sum("ia")},
		{Ref: "docker.io/library/nginx:1.27", ID: sum("a"), Manifest: sum("ma"), Digest: sum("ia")},
		{Ref: "example.com/b:v1", ID: sum("b"), Manifest: sum("mb"), Digest: sum("mb")},
		{ID: sum("c"), Manifest: sum("mc"), Digest: sum("mc")},
	}}
	for ref, want := range map[string]int{
		"nginx":                            0,
		"docker.io/nginx:1.27":             1,
		"nginx:1.26":                       -1,
		"nginx@" + sum("ia").String():      0,
		"nginx@" + sum("ma").String():      0,
		"nginx@" + sum("mb").String():      -1, // another repository's
		"nginx:9@" + sum("ia").String():    0,
		sum("b").String():                  2,
		sum("b").Encoded():                 2,
		sum("b").Encoded()[:12]:            2,
		"sha256:" + sum("c").Encoded()[:8]: 3,
		"cafecafecafe":                     -1,
	} {
		if got, err := x.find(ref); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", ref, got, err, want)
		}
	}
	if _, err := x.find("sha256:zz"); !errors.Is(err, ErrInvalidName) {
		t.Errorf("no error for a digest that is none: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	all, err := parseDockerConfigs([][]byte{
		[]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "aHViOnB3"}, "*.example.com": {"username": "star", "password": "p"}}}`),
		[]byte(`{"reg.example.com/team": {"username": "team", "password": "p"}, "reg.example.com:5000": {"username": "port", "password": "p"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, repository string
		users            []string
	}{
		{"docker.io", "library/nginx", []string{"hub"}},
		{"reg.example.com", "team/app", []string{"team", "star"}},
		{"reg.example.com", "teams/app", []string{"star"}},
		{"reg.example.com:5000", "a", []string{"port"}},
		{"deep.reg.example.com", "a", nil},
	} {
		var users []string
		for _, a := range candidates(all, c.host, c.repository) {
			auth, err := a.Authorization()
			if err != nil {
				t.Fatal(err)
			}
			if a != authn.Anonymous {
				users = append(users, auth.Username)
			}
		}
		if !slices.Equal(users, c.users) {
			t.Errorf("%s/%s: %v, want %v", c.host, c.repository, users, c.users)
		}
	}
	if _, err := parseDockerConfigs([][]byte{[]byte(`{"auths": "secret"`)}); err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("got %v", err)
	}
}

// documents is an origin of manifests only.
type documents map[digest.Digest][]byte

func (d documents) root(context.Context) ([]byte, error) { return d[""], nil }
func (d documents) document(_ context.Context, g digest.Digest) ([]byte, error) {
	return d[g], nil
}
func (d documents) blob(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	panic("not asked for")
}

func TestResolve(t *testing.T) {
	manifest := func(name string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[]}`, digest.FromString(name))
	}
	o := documents{}
	put := func(data []byte) digest.Digest { o[digest.FromBytes(data)] = data; return digest.FromBytes(data) }
	list := func(platforms ...v1.Platform) []byte {
		index := v1.Index{}
		for _, p := range platforms {
			index.Manifests = append(index.Manifests, v1.Descriptor{Digest: put(manifest(p.Architecture + p.Variant + p.OS)), Platform: &p})
		}
		data, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	here := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	unknown := v1.Platform{OS: "unknown", Architecture: "unknown"}
	v3 := v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}
	inner := list(v1.Platform{OS: "linux", Architecture: "s390x"}, v3, here, unknown)
	lone := fmt.Appendf(nil, `{"manifests":[{"digest":%q}]}`, put(inner))
	for name, c := range map[string]struct {
		root []byte
		want string
		err  error
	}{
		"manifest":           {root: manifest("m"), want: "m"},
		"index":              {root: inner, want: here.Architecture + here.OS},
		"index in an index":  {root: lone, want: here.Architecture + here.OS},
		"other platforms":    {root: list(v1.Platform{OS: "windows", Architecture: runtime.GOARCH}, unknown), err: ErrUnsupported},
		"newer processors":   {root: list(v3), err: ErrUnsupported},
		"schema 1":           {root: []byte(`{"schemaVersion":1}`), err: ErrUnsupported},
		"not JSON":           {root: []byte(`<html>`), err: ErrCorrupt},
		"both":               {root: []byte(`{"schemaVersion":2,"config":{"digest":"x"},"manifests":[]}`), err: ErrHostile},
		"forged":             {root: fmt.Appendf(nil, `{"manifests":[{"digest":%q}]}`, digest.FromString("other")), err: ErrCorrupt},
		"digest is a path":   {root: []byte(`{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`), err: ErrUnsupported},
		"digest of weak sum": {root: []byte(`{"manifests":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}]}`), err: ErrUnsupported},
	} {
		o[""] = c.root
		o[digest.FromString("other")] = manifest("forged")
		r, err := resolve(t.Context(), o)
		if !errors.Is(err, c.err) || (c.err == nil && r.manifest.Config.Digest != digest.FromString(c.want)) {
			t.Errorf("%s: %v, %v", name, r.manifest.Config.Digest, err)
		}
		if c.err == nil && r.top != digest.FromBytes(c.root) {
			t.Errorf("%s: digest of the name is %s", name, r.top)
		}
	}
}

func TestChainIDs(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	got, err := chainIDs([]v1.Descriptor{{Digest: a}, {Digest: a}}, []digest.Digest{a, b})
	if err != nil || got[0] != a || got[1] != digest.FromString(a.String()+" "+b.String()) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := chainIDs([]v1.Descriptor{{Digest: a}}, []digest.Digest{a, b}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := chainIDs([]v1.Descriptor{{Digest: a}}, []digest.Digest{"sha256:../../x"}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

func TestIndexPut(t *testing.T) {
	x := &index{}
	a, b := digest.FromString("a"), digest.FromString("b")
	x.put(entry{Ref: "r", ID: a})
	x.put(entry{ID: a})
	x.put(entry{ID: b})
	x.put(entry{ID: a})
	x.put(entry{Ref: "r", ID: b})
	if len(x.Images) != 3 || x.Images[2].ID != b {
		t.Errorf("%+v", x.Images)
	}
}

// Two callers share a pull; the one that gives up does not end it, the last one that does, does.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		var pulls, ended atomic.Int32
		pull := func(ctx context.Context, report func(Progress)) (Image, error) {
			pulls.Add(1)
			report(Progress{Done: 1})
			select {
			case <-time.After(time.Minute):
				return Image{Ref: "r"}, nil
			case <-ctx.Done():
				ended.Add(1)
				return Image{}, ctx.Err()
			}
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		results := make(chan error, 3)
		go func() { _, err := f.join(impatient, "k", nil, pull); results <- err }()
		go func() { _, err := f.join(t.Context(), "k", nil, pull); results <- err }()
		go func() { _, err := f.join(t.Context(), "other", nil, pull); results <- err }()
		if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if pulls.Load() != 2 || ended.Load() != 0 {
			t.Errorf("%d pulls, %d ended", pulls.Load(), ended.Load())
		}
		impatient, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.join(impatient, "k", nil, pull); !errors.Is(err, context.DeadlineExceeded) || ended.Load() != 1 {
			t.Errorf("%v, %d ended", err, ended.Load())
		}
	})
}

func TestWriteLayerIsReproducible(t *testing.T) {
	files := []File{
		{Path: "/b/c", Data: []byte("c")}, {Path: "/a/", Mode: 0o1777},
		{Path: "b/link", Link: "c"}, {Path: "/b/c", Data: []byte("newer"), Mode: 0o4755},
	}
	var one, two bytes.Buffer
	if err := errors.Join(writeLayer(&one, files), writeLayer(&two, files)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("equal files make different layers")
	}
	var got []string
	for r := tar.NewReader(&one); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		got = append(got, fmt.Sprintf("%s %c %o %s%s", h.Name, h.Typeflag, h.Mode, h.Linkname, data))
	}
	want := []string{"a/ 5 1777 ", "b/ 5 755 ", "b/c 0 4755 newer", "b/link 2 777 c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

//go:build system

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPull(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	base := newLayer(t, "gzip", member{kind: 'd', name: "tmp", mode: 0o1777}, member{kind: '-', name: "base", content: "b"})
	one := newImage(t, "one", base, newLayer(t, "zstd", member{kind: '-', name: "tmp/one", content: "1"}))
	two := newImage(t, "two", base, newLayer(t, "", member{kind: '-', name: "two", content: "2"}))
	digest := reg.push(t, one, "app/one", "app/one:v1")
	reg.push(t, two, "app/two:v2")

	var mu sync.Mutex
	var progress []Progress
	got, err := s.Pull(t.Context(), reg.host+"/app/one", PullOptions{Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		progress = append(progress, p)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ref != reg.host+"/app/one:latest" || got.Digest != digest || got.Digested != reg.host+"/app/one@"+digest ||
		!slices.Equal(got.Config.Cmd, []string{"one"}) || !slices.Equal(got.Config.Env, []string{"A=1"}) || len(got.Layers) != 2 || got.Size == 0 {
		t.Errorf("%+v", got)
	}
	if want := []string{"d 1777 0 tmp", "- 644 0 tmp/one 1"}; !slices.Equal(describe(t, got.Layers[1]), want) {
		t.Errorf("upper layer: %q", describe(t, got.Layers[1]))
	}
	unpacked := 0
	for _, p := range progress {
		if p.Unpacked && p.Done == p.Total {
			unpacked++
		}
	}
	if unpacked != 2 {
		t.Errorf("progress: %+v", progress)
	}
	// The shared layer is there already, and one blob was enough for it.
	other, err := s.Pull(t.Context(), reg.host+"/app/two:v2", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if other.Layers[0] != got.Layers[0] || other.ID == got.ID {
		t.Errorf("%+v and %+v", got, other)
	}
	h, _ := base.Digest()
	if n := reg.blobs[h.Hex]; n != 1 {
		t.Errorf("the base layer was fetched %d times", n)
	}
	for _, ref := range []string{reg.host + "/app/one:latest", reg.host + "/app/one@" + digest, got.ID, strings.TrimPrefix(got.ID, "sha256:")[:12]} {
		if found, ok, err := s.Get(ref); err != nil || !ok || found.ID != got.ID {
			t.Errorf("Get(%s) = %v %v", ref, ok, err)
		}
	}
	if byDigest, err := s.Pull(t.Context(), reg.host+"/app/one:any@"+digest, PullOptions{}); err != nil || byDigest.ID != got.ID {
		t.Errorf("by digest: %+v %v", byDigest, err)
	}
	if tmp := left(t, s, "tmp"); len(tmp) != 0 {
		t.Errorf("left in tmp: %v", tmp)
	}
	// What was pulled is there after a restart.
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := again.List(); err != nil || len(list) != 3 {
		t.Errorf("%v %v", list, err)
	}
}

func TestPullForThisPlatform(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	index := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	for _, arch := range []string{"s390x", runtime.GOARCH} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        newImage(t, arch, newLayer(t, "gzip", member{kind: '-', name: arch})),
			Descriptor: ggcr.Descriptor{Platform: &ggcr.Platform{OS: "linux", Architecture: arch}},
		})
	}
	ref, err := name.ParseReference(reg.host + "/multi")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	got, err := s.Pull(t.Context(), ref.String(), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := index.Digest(); got.Digest != want.String() || got.Config.Cmd[0] != runtime.GOARCH {
		t.Errorf("%+v", got)
	}
}

func TestPullErrors(t *testing.T) {
	reg := newRegistryServer(t)
	img := newImage(t, "x", newLayer(t, "gzip", member{kind: '-', name: "x", content: strings.Repeat("x", 10000)}))
	reg.push(t, img, "x")
	wrongDiff := newLayer(t, "gzip", member{kind: '-', name: "y"}).(testLayer)
	wrongDiff.diff = ggcr.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	reg.push(t, newImage(t, "y", wrongDiff), "wrong-diff")
	reg.push(t, newImage(t, "z", newLayer(t, "gzip", member{kind: '-', name: "../z"})), "hostile")

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	blob := func(f func(w http.ResponseWriter)) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			f(w)
			return true
		}
	}
	status := func(code int) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(code); return true }
	}
	for what, c := range map[string]struct {
		ref   string
		spoil func(w http.ResponseWriter, r *http.Request) bool
		want  error
	}{
		"invalid name":   {ref: "NOT/valid", want: ErrInvalidName},
		"no such tag":    {ref: reg.host + "/x:other", want: ErrNotFound},
		"no such image":  {ref: reg.host + "/nothing", want: ErrNotFound},
		"no such digest": {ref: reg.host + "/x@sha256:" + strings.Repeat("0", 64), want: ErrNotFound},
		"nobody listens": {ref: closed.Addr().String() + "/x", want: ErrUnavailable},
		"unauthorized":   {ref: reg.host + "/x", spoil: status(401), want: ErrUnauthorized},
		"forbidden":      {ref: reg.host + "/x", spoil: status(403), want: ErrUnauthorized},
		"wrong blob":     {ref: reg.host + "/x", spoil: blob(func(w http.ResponseWriter) { io.WriteString(w, "evil") }), want: ErrCorrupt},
		"wrong diff ID":  {ref: reg.host + "/wrong-diff", want: ErrCorrupt},
		"hostile layer":  {ref: reg.host + "/hostile", want: ErrHostile},
		"blob missing":   {ref: reg.host + "/x", spoil: blob(func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }), want: ErrNotFound},
		"other manifest": {ref: reg.host + "/x@sha256:" + strings.Repeat("0", 64), spoil: func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			io.WriteString(w, `{"schemaVersion":2}`)
			return true
		}, want: ErrCorrupt},
	} {
		t.Run(what, func(t *testing.T) {
			s := openStore(t)
			reg.spoilWith(c.spoil)
			defer reg.spoilWith(nil)
			if _, err := s.Pull(t.Context(), c.ref, PullOptions{}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if list, err := s.List(); err != nil || len(list)+len(left(t, s, "tmp"))+len(left(t, s, "layers")) != 0 {
				t.Errorf("left over: %v %v %v %v", list, left(t, s, "tmp"), left(t, s, "layers"), err)
			}
		})
	}
}

func TestPullSurvivesABrokenConnection(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	reg.push(t, newImage(t, "x", newLayer(t, "", member{kind: '-', name: "x", content: strings.Repeat("x", 10000)})), "x")
	var broken atomic.Bool
	reg.spoilWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || broken.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", "11776")
		io.WriteString(w, "half of it")
		panic(http.ErrAbortHandler)
	})
	if _, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{}); err != nil || !broken.Load() {
		t.Errorf("%v, broken %v", err, broken.Load())
	}
}

func TestPullWithCredentials(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	reg.push(t, newImage(t, "x", newLayer(t, "gzip", member{kind: '-', name: "x"})), "team/x")
	reg.spoilWith(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user == "right" && password == "pw" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	secret := func(user string) []byte {
		return fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":"pw"}}}`, reg.host, user)
	}
	pull := func(o PullOptions) error {
		_, err := s.Pull(t.Context(), reg.host+"/team/x", o)
		return err
	}
	if err := pull(PullOptions{}); !errors.Is(err, ErrUnauthorized) {
		t.Error(err)
	}
	if err := pull(PullOptions{DockerConfigs: [][]byte{secret("wrong")}}); !errors.Is(err, ErrUnauthorized) {
		t.Error(err)
	}
	if err := pull(PullOptions{DockerConfigs: [][]byte{secret("wrong"), secret("right")}}); err != nil {
		t.Error(err)
	}
}

func TestPullPlainHTTPFromAConfiguredHost(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	reg.push(t, newImage(t, "x", newLayer(t, "gzip", member{kind: '-', name: "x"})), "x")
	o := PullOptions{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, reg.host)
	}}}
	if _, err := s.Pull(t.Context(), "registry.test:5000/x", o); !errors.Is(err, ErrUnavailable) {
		t.Errorf("TLS with a plain server: %v", err)
	}
	o.PlainHTTP = []string{"registry.test:5000"}
	if _, err := s.Pull(t.Context(), "registry.test:5000/x", o); err != nil {
		t.Error(err)
	}
}

func TestPullsOfOneImageAreOne(t *testing.T) {
	reg, s := newRegistryServer(t), openStore(t)
	l := newLayer(t, "gzip", member{kind: '-', name: "x"})
	reg.push(t, newImage(t, "x", l), "x")
	release := make(chan struct{})
	reg.spoilWith(func(w http.ResponseWriter, r *http.Request) bool { <-release; return false })
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting != 5; runtime.Gosched() {
		s.flights.mu.Lock()
		for _, f := range s.flights.now {
			waiting = f.waiting
		}
		s.flights.mu.Unlock()
	}
	close(release)
	wg.Wait()
	h, _ := l.Digest()
	if n := reg.blobs[h.Hex]; n != 1 {
		t.Errorf("%d downloads", n)
	}
}

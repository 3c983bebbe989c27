//go:build system

package image

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
)

// bigLayer is a layer of some megabytes that does not compress.
func bigLayer(t *testing.T, name string, size int) ggcr.Layer {
	t.Helper()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(content)
	return newLayer(t, "", member{kind: '-', name: name, content: string(content)})
}

// flaky breaks each download of a blob of more than 1 MiB after some bytes, until it has broken so many.
type flaky struct {
	mu     sync.Mutex
	after  int64
	times  int
	ranges []string // asked for, "" for none
	sent   int64
	status int // instead of breaking, where it is not 0
}

func (f *flaky) spoil(reg *testRegistry, real http.Handler) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || r.Method != http.MethodGet {
			return false
		}
		f.mu.Lock()
		f.ranges = append(f.ranges, r.Header.Get("Range"))
		breaks := f.times > 0
		f.times--
		f.mu.Unlock()
		c := &cutter{ResponseWriter: w, f: f, left: 1 << 62}
		if breaks {
			c.left = f.after
		}
		real.ServeHTTP(c, r)
		return true
	}
}

// cutter breaks the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	f    *flaky
	left int64
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(int64(len(p)), c.left)
	c.left -= n
	_, err := c.ResponseWriter.Write(p[:n])
	c.f.mu.Lock()
	c.f.sent += n
	c.f.mu.Unlock()
	if n < int64(len(p)) {
		if flush, can := c.ResponseWriter.(http.Flusher); can {
			flush.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return len(p), err
}

func resumable(t *testing.T, size int) (reg *testRegistry, s *Store, f *flaky, layer ggcr.Layer) {
	t.Helper()
	reg, s, f = newRegistryServer(t), openStore(t), &flaky{}
	layer = bigLayer(t, "big", size)
	reg.push(t, newImage(t, "x", layer), "x")
	reg.spoilWith(f.spoil(reg, reg.real))
	return reg, s, f, layer
}

const mib = 1 << 20

func TestPullGoesOnWhereTheConnectionBroke(t *testing.T) {
	reg, s, f, layer := resumable(t, 8*mib)
	f.after, f.times = 3*mib/2, 6 // of which the configuration takes one without harm
	got, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(got.Layers[0], "big")); err != nil || st.Size() != 8*mib {
		t.Errorf("%v %v", st, err)
	}
	size, _ := layer.Size()
	if f.sent > size+mib { // what the kernel had buffered may be lost with a connection, and come twice
		t.Errorf("%d bytes were sent of %d: %q", f.sent, size, f.ranges)
	}
	asked := 0
	for _, r := range f.ranges {
		if strings.HasPrefix(r, "bytes=") && r != "bytes=0-" {
			asked++
		}
	}
	if asked < 4 {
		t.Errorf("asked for %q", f.ranges)
	}
	if p := left(t, s, "partial"); len(p) != 0 {
		t.Errorf("left in partial: %v", p)
	}
}

// The registry goes away for longer than one pull tries; the next pull, in another process, goes on.
func TestPullGoesOnInAnotherProcess(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, file string, f *flaky){
		"goes on": func(*testing.T, string, *flaky) {},
		"damaged": func(t *testing.T, file string, _ *flaky) {
			w, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err == nil {
				_, err = w.WriteAt(make([]byte, 4096), mib/2)
			}
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"longer than it should be": func(t *testing.T, file string, _ *flaky) {
			if err := os.Truncate(file, 64*mib); err != nil {
				t.Fatal(err)
			}
		},
		"no ranges": func(_ *testing.T, _ string, f *flaky) { f.status = http.StatusOK },
	} {
		t.Run(what, func(t *testing.T) {
			reg, s, f, layer := resumable(t, 4*mib)
			f.after, f.times = mib/2, 1<<30
			if _, err := s.Pull(t.Context(), reg.host+"/x", PullOptions{}); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("a registry that always breaks: %v", err)
			}
			h, _ := layer.Digest()
			file := filepath.Join(s.dir, "partial", h.Hex)
			st, err := os.Stat(file)
			if err != nil || st.Size() < mib {
				t.Fatalf("kept: %v %v", st, err)
			}
			change(t, file, f)
			other, err := Open(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Collect(t.Context(), nil); err != nil { // as Orlog does at times: it is not garbage yet
				t.Fatal(err)
			}
			f.sent, f.times, f.ranges = 0, 0, nil
			if f.status == http.StatusOK {
				inner := f.spoil(reg, reg.real)
				reg.spoilWith(func(w http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return inner(w, r) })
			}
			if _, err := other.Pull(t.Context(), reg.host+"/x", PullOptions{}); err != nil {
				t.Fatal(err)
			}
			size, _ := layer.Size()
			if want := size - st.Size() + mib/2; what == "goes on" && f.sent > want {
				t.Errorf("%d bytes were sent, want at most %d of %d: %q", f.sent, want, size, f.ranges)
			}
			if p := left(t, s, "partial"); len(p) != 0 {
				t.Errorf("left in partial: %v", p)
			}
		})
	}
}

// Whoever gives up while a layer comes keeps what has come, and two who want one layer do not write to one file.
func TestPullGivenUpKeepsWhatCame(t *testing.T) {
	reg, s, f, layer := resumable(t, 6*mib)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Pull(ctx, reg.host+"/x", PullOptions{Progress: func(p Progress) {
		if p.Done > 2*mib && !p.Unpacked {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	h, _ := layer.Digest()
	if st, err := os.Stat(filepath.Join(s.dir, "partial", h.Hex)); err != nil || st.Size() < 2*mib {
		t.Errorf("kept: %v %v", st, err)
	}
	f.sent = 0
	other, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, at := range []*Store{s, other} {
		wg.Go(func() {
			if _, err := at.Pull(t.Context(), reg.host+"/x", PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if p := left(t, s, "partial"); len(p) != 0 {
		t.Errorf("left in partial: %v", p)
	}
}

func TestPullFromAMirror(t *testing.T) {
	origin, mirror, s := newRegistryServer(t), newRegistryServer(t), openStore(t)
	img := newImage(t, "x", newLayer(t, "gzip", member{kind: '-', name: "x"}))
	digest := mirror.push(t, img, "copies/team/x:1", "team/y:1")
	origin.push(t, img, "team/z:1")
	o := PullOptions{Mirrors: map[string][]string{origin.host: {"http://" + mirror.host + "/copies/", mirror.host}}}
	for _, name := range []string{"team/x", "team/y", "team/z"} { // under the path, at the second mirror, at the registry
		got, err := s.Pull(t.Context(), origin.host+"/"+name+":1", o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Ref != origin.host+"/"+name+":1" || got.Digest != digest {
			t.Errorf("%+v", got)
		}
	}
	_, err := s.Pull(t.Context(), origin.host+"/team/none:1", o)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "mirror "+mirror.host) {
		t.Errorf("nowhere: %v", err)
	}
}

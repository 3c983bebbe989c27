//go:build system

package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// testRegistry is a real registry on a loopback port, which counts and spoils on demand.
type testRegistry struct {
	host  string
	spoil atomic.Pointer[func(w http.ResponseWriter, r *http.Request) (handled bool)]
	mu    sync.Mutex
	blobs map[string]int // downloads by digest
}

func newRegistryServer(t *testing.T) *testRegistry {
	t.Helper()
	reg := &testRegistry{blobs: map[string]int{}}
	real := ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil := reg.spoil.Load(); spoil != nil && (*spoil)(w, r) {
			return
		}
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/sha256:"); ok && r.Method == http.MethodGet {
			reg.mu.Lock()
			reg.blobs[digest]++
			reg.mu.Unlock()
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	reg.host = strings.TrimPrefix(server.URL, "http://")
	return reg
}

func (r *testRegistry) spoilWith(f func(w http.ResponseWriter, r *http.Request) bool) {
	if f == nil {
		r.spoil.Store(nil)
		return
	}
	r.spoil.Store(&f)
}

// testLayer is a compressed layer with the right diff ID.
type testLayer struct {
	ggcr.Layer
	diff ggcr.Hash
	kind types.MediaType
}

func (l testLayer) DiffID() (ggcr.Hash, error)           { return l.diff, nil }
func (l testLayer) MediaType() (types.MediaType, error)  { return l.kind, nil }
func (l testLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not asked for") }

func newLayer(t *testing.T, compression string, members ...member) ggcr.Layer {
	t.Helper()
	plain := archive(t, members...)
	var buf bytes.Buffer
	kind := types.OCILayer
	switch compression {
	case "gzip":
		w := gzip.NewWriter(&buf)
		w.Write(plain)
		w.Close()
	case "zstd":
		kind = types.OCILayerZStd
		w, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(plain)
		w.Close()
	default:
		kind = types.OCIUncompressedLayer
		buf.Write(plain)
	}
	diff, _, err := ggcr.SHA256(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	return testLayer{static.NewLayer(buf.Bytes(), kind), diff, kind}
}

// newImage makes an image whose command is its name.
func newImage(t *testing.T, name string, layers ...ggcr.Layer) ggcr.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err == nil {
		img, err = mutate.Config(img, ggcr.Config{Cmd: []string{name}, Env: []string{"A=1"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func (r *testRegistry) push(t *testing.T, img ggcr.Image, refs ...string) (digest string) {
	t.Helper()
	for _, ref := range refs {
		parsed, err := name.ParseReference(r.host + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(parsed, img); err != nil {
			t.Fatal(err)
		}
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// left lists what is on disk besides whole images: nothing, after anything that ended.
func left(t *testing.T, s *Store, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

//go:build system

package systemtest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ociregistry "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// registry is a real one on the loopback of the cluster's host, which lets in who has the password.
type registry struct {
	host   string // as the node sees it
	push   string // as the test does, without a password
	real   http.Handler
	mu     sync.Mutex
	ranges []string // asked for, of blobs
	stall  chan struct{}
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{real: ociregistry.New(ociregistry.Logger(log.New(io.Discard, "", 0)))}
	l, err := listenInside(the.id, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	r.host = l.Addr().String()
	outside := httptest.NewServer(r.real)
	t.Cleanup(outside.Close)
	r.push = strings.TrimPrefix(outside.URL, "http://")
	return r
}

// ServeHTTP asks for the password; the first blob that is asked for while stall is set comes half and then not.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if user, password, _ := req.BasicAuth(); user != "shop" || password != "pw" {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.mu.Lock()
	stall := r.stall
	if strings.Contains(req.URL.Path, "/blobs/") {
		r.ranges = append(r.ranges, req.Header.Get("Range"))
	}
	r.mu.Unlock()
	if stall != nil && strings.Contains(req.URL.Path, "/blobs/") {
		w = &halfWriter{ResponseWriter: w, left: 3 << 20, stall: stall, gone: req.Context().Done()}
	}
	r.real.ServeHTTP(w, req)
}

// halfWriter lets some bytes through, then none until it is told to, or the client is gone.
type halfWriter struct {
	http.ResponseWriter
	left  int
	stall <-chan struct{}
	gone  <-chan struct{}
}

func (h *halfWriter) Write(p []byte) (int, error) {
	if len(p) <= h.left {
		h.left -= len(p)
		return h.ResponseWriter.Write(p)
	}
	n, err := h.ResponseWriter.Write(p[:h.left])
	if err != nil {
		return n, err
	}
	h.left = 0
	h.ResponseWriter.(http.Flusher).Flush()
	select {
	case <-h.stall:
		return n, io.ErrShortWrite
	case <-h.gone:
		return n, io.ErrClosedPipe
	}
}

// put pushes an image that runs the demo's program, with so many bytes beside it.
func (r *registry) put(t *testing.T, ref string, size int) {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(the.bin, "demo-web"))
	if err != nil {
		t.Fatal(err)
	}
	ballast := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(len(ref))}).Read(ballast)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string][]byte{"demo-web": program, "ballast": ballast} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/demo-web"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseReference(r.push + "/" + ref)
	if err == nil {
		err = remote.Write(at, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// runImage makes a pod of an image.
func runImage(t *testing.T, ns, name, image string) {
	t.Helper()
	apply(t, ns, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {containers: [{name: web, image: %q}], terminationGracePeriodSeconds: 1}
`, name, image))
}

func TestPrivateImageByTheServiceAccountsSecret(t *testing.T) {
	r, ns := newRegistry(t), namespace(t)
	r.put(t, "shop/web:1", 0)
	image := r.host + "/shop/web:1"
	eventually(t, 20*time.Second, "the namespace's service account", func() error {
		_, err := the.run("kubectl", "get", "serviceaccount", "default", "-n", ns)
		return err
	})

	runImage(t, ns, "stranger", image)
	waiting := func(reason string) {
		t.Helper()
		eventually(t, 20*time.Second, "a pod that may not pull: "+reason, func() error {
			for _, c := range pod(t, ns, "stranger").Status.ContainerStatuses {
				if w := c.State.Waiting; w != nil && w.Reason == reason && strings.Contains(w.Message, "not authorized") {
					return nil
				}
			}
			return fmt.Errorf("%+v", pod(t, ns, "stranger").Status.ContainerStatuses)
		})
	}
	waiting("ErrImagePull")
	waiting("ImagePullBackOff")

	must(t, "kubectl", "create", "secret", "docker-registry", "pull", "-n", ns, "--docker-server="+r.host, "--docker-username=shop", "--docker-password=pw")
	must(t, "kubectl", "patch", "serviceaccount", "default", "-n", ns, "-p", `{"imagePullSecrets":[{"name":"pull"}]}`)
	runImage(t, ns, "friend", image)
	must(t, "kubectl", "wait", "-n", ns, "--for=condition=Ready", "pod/friend", "--timeout=30s")
	if s := pod(t, ns, "friend").Spec.ImagePullSecrets; len(s) != 1 || s[0].Name != "pull" {
		t.Errorf("pull secrets %+v", s)
	}
	eventually(t, 20*time.Second, "the events of both pods", func() error {
		out := must(t, "kubectl", "get", "events", "-n", ns, "-o", `jsonpath={range .items[*]}{.involvedObject.name} {.reason}: {.message}{"\n"}{end}`)
		for _, want := range []string{
			"friend Pulling: Pulling image \"" + image + "\"",
			"friend Pulled: Successfully pulled image \"" + image + "\" in ", "including waiting). Image size: ",
			"stranger Failed: Failed to pull image \"" + image + "\": ", "stranger Failed: Error: ErrImagePull",
			"stranger BackOff: Back-off pulling image \"" + image + "\"", "stranger Failed: Error: ImagePullBackOff",
		} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in\n%s", want, out)
			}
		}
		return nil
	})
}

// The agent is killed in the middle of a pull: the next one asks for the rest.
func TestPullGoesOnAfterTheAgentsDeath(t *testing.T) {
	r, ns := newRegistry(t), namespace(t)
	r.put(t, "shop/big:1", 6<<20)
	eventually(t, 20*time.Second, "the namespace's service account", func() error {
		_, err := the.run("kubectl", "get", "serviceaccount", "default", "-n", ns)
		return err
	})
	must(t, "kubectl", "create", "secret", "docker-registry", "pull", "-n", ns, "--docker-server="+r.host, "--docker-username=shop", "--docker-password=pw")
	must(t, "kubectl", "patch", "serviceaccount", "default", "-n", ns, "-p", `{"imagePullSecrets":[{"name":"pull"}]}`)
	r.stall = make(chan struct{})
	runImage(t, ns, "big", r.host+"/shop/big:1")
	partial := filepath.Join(the.dir, "node", "images", "partial")
	eventually(t, 20*time.Second, "half a layer", func() error {
		files, err := filepath.Glob(partial + "/*")
		for _, f := range files {
			if st, err := os.Stat(f); err == nil && st.Size() >= 2<<20 {
				return nil
			}
		}
		return fmt.Errorf("%v in %s: %v", files, partial, err)
	})
	if err := the.kill(&the.agent); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.stall, r.ranges = nil, nil
	r.mu.Unlock()
	if err := the.startAgent(); err != nil {
		t.Fatal(err)
	}
	must(t, "kubectl", "wait", "-n", ns, "--for=condition=Ready", "pod/big", "--timeout=30s")
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := strings.Join(r.ranges, " "); !strings.Contains(all, "bytes=") || strings.Contains(all, "bytes=0-") {
		t.Errorf("after the restart it asked for the ranges %q", r.ranges)
	}
}

// Progress is for people at a terminal; for a program there is one line.
func TestImagePullAtATerminalAndNot(t *testing.T) {
	r := newRegistry(t)
	r.put(t, "shop/tool:1", 1<<20)
	config := file(t, fmt.Sprintf(`{"auths":{%q:{"username":"shop","password":"pw"}}}`, r.host))
	store := t.TempDir()
	pull := fmt.Sprintf("orlog image pull %s/shop/tool:1 --docker-config %s --store %s", r.host, config, store)
	out := must(t, "script", "-qec", "stty cols 120 rows 30; "+pull, "/dev/null")
	if !strings.Contains(out, "done") || !strings.Contains(out, "MB") || !strings.Contains(out, "pulled "+r.host+"/shop/tool:1") {
		t.Errorf("at a terminal: %q", out)
	}
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	out = must(t, "sh", "-c", pull+" 2>&1")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 1 || !strings.HasPrefix(lines[0], "pulled ") {
		t.Errorf("to a pipe: %q", out)
	}
	if said := mustFail(t, "orlog", "image", "pull", r.host+"/shop/tool:1", "--store", store); !strings.Contains(said, "not authorized") {
		t.Errorf("without the password: %s", said)
	}
}

// kubectl debug adds a container that sees the processes of the one it is to look at.
func TestKubectlDebug(t *testing.T) {
	ns := namespace(t)
	must(t, "kubectl", "run", "web", "-n", ns, "--image=orlog.local/demo/web:1.0")
	must(t, "kubectl", "wait", "-n", ns, "--for=condition=Ready", "pod/web", "--timeout=30s")
	must(t, "kubectl", "debug", "-n", ns, "web", "--image=orlog.local/test/busybox:1", "--target=web", "-c", "look", "--attach=false", "--", "/bin/sh", "-c", "cat /proc/1/cmdline; echo; sleep 600")
	eventually(t, 20*time.Second, "the debugger's look at the web server", func() error {
		out, err := the.run("kubectl", "logs", "-n", ns, "web", "-c", "look")
		if err == nil && !strings.Contains(out, "demo-web") {
			err = fmt.Errorf("its log is %q", out)
		}
		return err
	})
}

//go:build system

package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// writeLayout writes an OCI layout of images by annotated name.
func writeLayout(t *testing.T, images map[string]ggcr.Image) string {
	t.Helper()
	dir := t.TempDir()
	l, err := ocilayout.FromPath(dir)
	if err != nil {
		if l, err = ocilayout.Write(dir, empty.Index); err != nil {
			t.Fatal(err)
		}
	}
	for name, img := range images {
		annotations := map[string]string{annotationRef: name}
		if full, ok := strings.CutPrefix(name, "full:"); ok {
			annotations = map[string]string{annotationName: full, annotationRef: "tag"}
		}
		if err := l.AppendImage(img, ocilayout.WithAnnotations(annotations)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pack makes an archive of a directory with the system's tar.
func packDir(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.Command("tar", append(flags, "-cf", file, "-C", dir, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

func TestLoadLayout(t *testing.T) {
	a := newImage(t, "a", newLayer(t, "gzip", member{kind: '-', name: "a"}))
	b := newImage(t, "b", newLayer(t, "zstd", member{kind: '-', name: "b"}))
	dir := writeLayout(t, map[string]ggcr.Image{"example.com/a:v1": a, "full:example.com/a:v2": a, "latest": b})
	for what, file := range map[string]string{
		"directory": dir, "archive": packDir(t, dir), "compressed archive": packDir(t, dir, "-z"),
	} {
		t.Run(what, func(t *testing.T) {
			s := openStore(t)
			got, err := s.Load(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, i := range got {
				names = append(names, i.Ref+" "+i.Config.Cmd[0])
			}
			slices.Sort(names)
			if want := []string{" b", "example.com/a:v1 a", "example.com/a:v2 a"}; !slices.Equal(names, want) {
				t.Errorf("%q", names)
			}
			digest, _ := a.Digest()
			if found, ok, err := s.Get("example.com/a@" + digest.String()); err != nil || !ok || found.Digest != digest.String() {
				t.Errorf("%+v %v %v", found, ok, err)
			}
			if tmp := left(t, s, "tmp"); len(tmp) != 0 {
				t.Errorf("left in tmp: %v", tmp)
			}
		})
	}
}

func TestLoadDockerArchive(t *testing.T) {
	img := newImage(t, "a", uncompressed(t, member{kind: '-', name: "a", content: "1"}), uncompressed(t, member{kind: '-', name: "b", content: "2"}))
	var buf bytes.Buffer
	tag, err := name.NewTag("busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.Write(tag, img, &buf); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(buf.Bytes())
	w.Close()
	for what, data := range map[string][]byte{"plain": buf.Bytes(), "compressed": zipped.Bytes()} {
		t.Run(what, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openStore(t)
			got, err := s.Load(t.Context(), file)
			if err != nil {
				t.Fatal(err)
			}
			id, _ := img.ConfigName()
			if len(got) != 1 || got[0].Ref != "docker.io/library/busybox:1" || got[0].ID != id.String() || len(got[0].Layers) != 2 {
				t.Errorf("%+v", got)
			}
			if _, ok, err := s.Get("busybox:1"); err != nil || !ok {
				t.Errorf("%v %v", ok, err)
			}
		})
	}
}

// What old versions of docker wrote: layers in directories of their own, some only links to others.
func TestLoadOldDockerArchive(t *testing.T) {
	one := archive(t, member{kind: '-', name: "a", content: "1"})
	diff, _, err := ggcr.SHA256(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"config":{"Cmd":["x"]},"rootfs":{"diff_ids":[%q,%q]}}`, diff, diff)
	file := filepath.Join(t.TempDir(), "f")
	err = os.WriteFile(file, archive(t,
		member{kind: 'd', name: "1/"}, member{kind: '-', name: "1/layer.tar", content: string(one)},
		member{kind: 'd', name: "2/"}, member{kind: 'l', name: "2/layer.tar", content: "../1/layer.tar"},
		member{kind: '-', name: "c.json", content: config},
		member{kind: '-', name: "manifest.json", content: `[{"Config":"c.json","RepoTags":["x:1","y:2"],"Layers":["1/layer.tar","2/layer.tar"]}]`},
	), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t)
	got, err := s.Load(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[0].Layers) != 2 || got[0].Layers[0] == got[0].Layers[1] {
		t.Errorf("%+v", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	s := openStore(t)
	write := func(data []byte) string {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for what, c := range map[string]struct {
		file string
		want error
	}{
		"no such file":    {"/nowhere", ErrNotFound},
		"empty directory": {t.TempDir(), ErrUnsupported},
		"other archive":   {write(archive(t, member{kind: '-', name: "README"})), ErrUnsupported},
		"no archive":      {write([]byte(strings.Repeat("text ", 1000))), ErrCorrupt},
		"traversal":       {write(archive(t, member{kind: '-', name: "../x"})), ErrHostile},
		"config outside": {write(archive(t, member{kind: 'l', name: "c", content: "/etc/hostname"},
			member{kind: '-', name: "manifest.json", content: `[{"Config":"c","Layers":[]}]`})), ErrCorrupt},
		"config elsewhere": {write(archive(t, member{kind: '-', name: "manifest.json", content: `[{"Config":"../../etc/hostname","Layers":[]}]`})), ErrCorrupt},
		"layer missing":    {write(archive(t, member{kind: '-', name: "c", content: "{}"}, member{kind: '-', name: "manifest.json", content: `[{"Config":"c","Layers":["l"]}]`})), ErrCorrupt},
	} {
		if _, err := s.Load(t.Context(), c.file); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if tmp := left(t, s, "tmp"); len(tmp) != 0 {
		t.Errorf("left in tmp: %v", tmp)
	}
}

func TestPack(t *testing.T) {
	s := openStore(t)
	got, err := s.Pack(t.Context(), "/usr/bin/busybox", "tools/box:1", PackOptions{
		Path: "/bin/busybox", Config: v1.ImageConfig{Entrypoint: []string{"/bin/busybox"}, Cmd: []string{"sh"}},
		Files: []File{{Path: "/bin/sh", Link: "busybox"}, {Path: "/etc/motd", Data: []byte("hi")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Ref != "docker.io/tools/box:1" || got.Config.Cmd[0] != "sh" || len(got.Layers) != 1 {
		t.Errorf("%+v", got)
	}
	out, err := exec.Command("chroot", got.Layers[0], "/bin/sh", "-c", "/bin/busybox cat /etc/motd; /bin/busybox id -un").CombinedOutput()
	if err != nil || string(out) != "hiroot\n" {
		t.Errorf("%q %v", out, err)
	}
	same, err := s.Pack(t.Context(), "/usr/bin/busybox", "other", PackOptions{
		Path: "/bin/busybox", Config: v1.ImageConfig{Entrypoint: []string{"/bin/busybox"}, Cmd: []string{"sh"}},
		Files: []File{{Path: "/bin/sh", Link: "busybox"}, {Path: "/etc/motd", Data: []byte("hi")}},
	})
	if err != nil || same.ID != got.ID {
		t.Errorf("not reproducible: %s %s %v", same.ID, got.ID, err)
	}
	plain, err := s.Pack(t.Context(), "/usr/bin/busybox", "plain", PackOptions{})
	if err != nil || !slices.Equal(plain.Config.Entrypoint, []string{"/busybox"}) {
		t.Errorf("%+v %v", plain.Config, err)
	}
	dynamic, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pack(t.Context(), dynamic, "x", PackOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a program without its libraries: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s := openStore(t)
	base := newLayer(t, "gzip", member{kind: '-', name: "base"})
	a := newImage(t, "a", base, newLayer(t, "gzip", member{kind: '-', name: "a"}))
	b := newImage(t, "b", base, newLayer(t, "gzip", member{kind: '-', name: "b"}))
	if _, err := s.Load(t.Context(), writeLayout(t, map[string]ggcr.Image{"x/a:1": a, "x/a:2": a, "x/b:1": b})); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tag(t.Context(), "x/b:1", "c"); err != nil {
		t.Fatal(err)
	}
	count := func(images, layers, blobs int) {
		t.Helper()
		list, err := s.List()
		if err != nil || len(list) != images || len(left(t, s, "layers")) != layers || len(left(t, s, "blobs/sha256")) != blobs || len(left(t, s, "tmp")) != 0 {
			t.Errorf("%d images, layers %v, blobs %v, tmp %v, %v", len(list), left(t, s, "layers"), left(t, s, "blobs/sha256"), left(t, s, "tmp"), err)
		}
	}
	remove := func(ref string, inUse ...string) error {
		used := map[string]bool{}
		for _, l := range inUse {
			used[l] = true
		}
		return s.Remove(t.Context(), ref, used)
	}
	count(4, 3, 4)
	imageA, _, err := s.Get("x/a:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remove("docker.io/x/a:1"); err != nil {
		t.Fatal(err)
	}
	count(3, 3, 4) // it has another name
	if err := remove(imageA.ID, imageA.Layers[1]); !errors.Is(err, ErrInUse) {
		t.Errorf("removed by ID although in use: %v", err)
	}
	if err := remove("x/a:2", imageA.Layers...); err != nil {
		t.Fatal(err)
	}
	count(2, 3, 2) // its layer is in use
	if err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	count(2, 2, 2)
	if err := remove("x/a:2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	imageB, _, err := s.Get("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(imageB.ID); err != nil {
		t.Fatal(err)
	}
	count(0, 0, 0)
}

// What a crash leaves goes with the next collection, unless somebody is adding.
func TestCollectRemovesWhatACrashLeft(t *testing.T) {
	s := openStore(t)
	for _, path := range []string{"tmp/add-1/half", "layers/" + strings.Repeat("a", 64) + "/f", "blobs/sha256/" + strings.Repeat("b", 64) + ".tmp-1"} {
		path = filepath.Join(s.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := s.lockAdding(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(t.Context(), nil); err != nil || len(left(t, s, "tmp")) != 1 {
		t.Errorf("collected while somebody adds: %v", err)
	}
	unlock()
	if err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(left(t, s, "tmp")) + len(left(t, s, "layers")) + len(left(t, s, "blobs/sha256")); n != 0 {
		t.Errorf("%d left", n)
	}
}

// Several processes on one directory: every store opens its own locks, so two stores are as good as two processes.
func TestStoresShareADirectory(t *testing.T) {
	one := openStore(t)
	two, err := Open(one.dir)
	if err != nil {
		t.Fatal(err)
	}
	base := newLayer(t, "gzip", member{kind: '-', name: "base"})
	var wg sync.WaitGroup
	for i, s := range []*Store{one, two} {
		for j := range 3 {
			wg.Go(func() {
				ref := fmt.Sprintf("x/%d-%d:1", i, j)
				img := newImage(t, ref, base, newLayer(t, "gzip", member{kind: '-', name: ref}))
				dir := writeLayout(t, map[string]ggcr.Image{ref: img})
				for range 8 {
					got, err := s.Load(t.Context(), dir)
					if err != nil {
						t.Error(err)
						return
					}
					for _, l := range got[0].Layers {
						if len(describe(t, l)) == 0 {
							t.Errorf("%s is gone while %s needs it", l, ref)
						}
					}
					if err := s.Remove(t.Context(), ref, nil); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if err := one.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(left(t, one, "layers")); n != 0 {
		t.Errorf("%d layers left", n)
	}
}

// uncompressed is a layer as tarball.Write wants it.
func uncompressed(t *testing.T, members ...member) ggcr.Layer {
	t.Helper()
	data := archive(t, members...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

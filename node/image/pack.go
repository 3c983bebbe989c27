package image

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PackOptions say what goes into a packed image besides the binary.
type PackOptions struct {
	// Path is where the binary goes. Default "/<its base name>".
	Path string
	// Config is how to run it. Default entrypoint: the binary.
	Config v1.ImageConfig
	// Files are added, over the few that every image gets (/etc/passwd, /etc/group, /tmp).
	Files []File
}

// File is a file of a packed image, owned by root.
type File struct {
	// Path in the image. A trailing slash makes it a directory.
	Path string
	// From is a file to copy, Data its content if From is empty, Link the target if it is to be a symbolic link.
	From string
	Data []byte
	Link string
	// Mode is its permissions. Default 0644, of directories 0755.
	Mode int64
}

// Pack makes an image of one layer from a static binary: a way to run a program without a registry and without a
// build tool. The same input gives the same image.
func (s *Store) Pack(ctx context.Context, binary, ref string, o PackOptions) (Image, error) {
	name, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	if err := checkStatic(binary); err != nil {
		return Image{}, err
	}
	if o.Path == "" {
		o.Path = "/" + filepath.Base(binary)
	}
	if o.Config.Entrypoint == nil && o.Config.Cmd == nil {
		o.Config.Entrypoint = []string{o.Path}
	}
	files := append([]File{
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "/etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{Path: "/tmp/", Mode: 0o1777},
		{Path: "/root/", Mode: 0o700},
		{Path: o.Path, From: binary, Mode: 0o755},
	}, o.Files...)
	layer, err := os.CreateTemp("", "orlog-pack-")
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	diff := digest.SHA256.Digester()
	if err := writeLayer(io.MultiWriter(layer, diff.Hash()), files); err != nil {
		return Image{}, err
	}
	origin, err := newPacked(layer, diff.Digest(), o.Config)
	if err != nil {
		return Image{}, err
	}
	images, err := s.add(ctx, origin, []string{name}, nil)
	if err != nil {
		return Image{}, fmt.Errorf("pack %s: %w", ref, err)
	}
	return images[0], nil
}

// checkStatic refuses a program that would not start for want of its loader.
func checkStatic(binary string) error {
	f, err := elf.Open(binary)
	if err != nil {
		if _, ok := errors.AsType[*elf.FormatError](err); ok {
			return nil // a script, or something else that its files make sense of
		}
		return fmt.Errorf("image: binary: %w", err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("image: %w: %s is linked dynamically: link it statically (CGO_ENABLED=0, or -static)", ErrUnsupported, binary)
		}
	}
	return nil
}

// writeLayer writes files and the directories that lead to them, without owners' names and times, so that equal
// content makes equal layers. Later files replace earlier ones of the same path.
func writeLayer(w io.Writer, files []File) error {
	byPath := map[string]File{}
	for _, f := range files {
		p := path.Clean("/" + f.Path)[1:]
		if p == "" {
			return fmt.Errorf("image: pack: %w: file without a name", ErrInvalidName)
		}
		byPath[p] = f
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, is := byPath[dir]; !is {
				byPath[dir] = File{Path: dir + "/"}
			}
		}
	}
	paths := make([]string, 0, len(byPath))
	for p := range byPath {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	archive := tar.NewWriter(w)
	for _, p := range paths {
		if err := writeEntry(archive, p, byPath[p]); err != nil {
			return fmt.Errorf("image: pack %s: %w", p, err)
		}
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, name string, f File) error {
	h := &tar.Header{Name: name, Mode: f.Mode, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	var content io.Reader = bytes.NewReader(f.Data)
	h.Size = int64(len(f.Data))
	switch {
	case strings.HasSuffix(f.Path, "/"):
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		if h.Mode == 0 {
			h.Mode = 0o755
		}
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
	case f.From != "":
		in, err := os.Open(f.From)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		content, h.Size = in, info.Size()
	}
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	if err := archive.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

// packed is the origin of an image made here.
type packed struct {
	manifest []byte
	config   []byte
	layer    *os.File
	layerIs  digest.Digest
}

func newPacked(layer *os.File, diff digest.Digest, config v1.ImageConfig) (*packed, error) {
	info, err := layer.Stat()
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	p := &packed{layer: layer, layerIs: diff}
	image := v1.Image{
		Platform: v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH},
		Config:   config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}},
	}
	if p.config, err = json.Marshal(image); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	p.manifest, err = json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{
			MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(p.config), Size: int64(len(p.config)),
		},
		Layers: []v1.Descriptor{{MediaType: v1.MediaTypeImageLayer, Digest: diff, Size: info.Size()}},
	})
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return p, nil
}

func (p *packed) root(context.Context) ([]byte, error) { return p.manifest, nil }

func (p *packed) document(_ context.Context, d digest.Digest) ([]byte, error) {
	return nil, fmt.Errorf("image: %w: manifest %s", ErrNotFound, d)
}

func (p *packed) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest != p.layerIs {
		return io.NopCloser(bytes.NewReader(p.config)), nil
	}
	info, err := p.layer.Stat()
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return io.NopCloser(io.NewSectionReader(p.layer, 0, info.Size())), nil
}

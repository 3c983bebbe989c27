package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load adds all images of a file or directory: an OCI layout, as a directory or as an archive, or what "docker save"
// writes; archives may be compressed. Names come from the file; an image without one is found by its ID.
func (s *Store) Load(ctx context.Context, file string) ([]Image, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image: %w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	dir := file
	if !info.IsDir() {
		unlock, err := s.lockAdding(ctx) // keeps Collect away from what is unpacked below
		if err != nil {
			return nil, err
		}
		defer unlock()
		if dir, err = os.MkdirTemp(filepath.Join(s.dir, "tmp"), "load-"); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		defer os.RemoveAll(dir)
		if err := explode(ctx, file, dir); err != nil {
			return nil, fmt.Errorf("image: %s: %w", file, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer root.Close()
	images, err := s.loadRoot(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", file, err)
	}
	return images, nil
}

// loadRoot adds what is in an exploded archive. Newer docker archives are OCI layouts as well, whose index has the
// better names; older layouts made by other tools may have none at all.
func (s *Store) loadRoot(ctx context.Context, root *os.Root) ([]Image, error) {
	found, err := layoutImages(root)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !named(found) {
		docker, dockerErr := dockerImages(root)
		if dockerErr == nil {
			found, err = docker, nil
		} else if !errors.Is(dockerErr, fs.ErrNotExist) {
			return nil, dockerErr
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image: %w: neither an OCI layout nor a docker archive", ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, f := range found {
		images, err := s.add(ctx, f.origin, f.names, nil)
		if err != nil {
			return out, fmt.Errorf("%q: %w", f.names, err)
		}
		out = append(out, images...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("image: %w: no image in it", ErrNotFound)
	}
	return out, nil
}

// foundImage is an image of a file, with its normalised names.
type foundImage struct {
	origin origin
	names  []string
}

func named(images []foundImage) bool {
	for _, f := range images {
		if len(f.names) > 0 {
			return true
		}
	}
	return false
}

// Annotations that name an image in an index.
const (
	annotationName = "io.containerd.image.name" // in full
	annotationRef  = v1.AnnotationRefName       // in full, or only the tag
)

// layoutImages lists the images of an OCI layout.
func layoutImages(root *os.Root) ([]foundImage, error) {
	data, err := readDocument(root, v1.ImageIndexFile, maxManifest)
	if err != nil {
		return nil, err
	}
	var index v1.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("image: %w: %s: %w", ErrCorrupt, v1.ImageIndexFile, err)
	}
	var out []foundImage
	at := map[digest.Digest]int{}
	for _, d := range index.Manifests {
		if err := check(d.Digest); err != nil {
			return nil, err
		}
		if p := d.Platform; p != nil && p.OS == "unknown" {
			continue // an attestation about the image beside it
		}
		i, seen := at[d.Digest]
		if !seen {
			i = len(out)
			at[d.Digest] = i
			out = append(out, foundImage{origin: &layout{files: root, top: d.Digest}})
		}
		name := d.Annotations[annotationName]
		if ref := d.Annotations[annotationRef]; name == "" && strings.ContainsAny(ref, ":/") {
			name = ref
		}
		if name == "" {
			continue
		}
		normal, err := Normalize(name)
		if err != nil {
			return nil, err
		}
		out[i].names = append(out[i].names, normal)
	}
	return out, nil
}

// layout is the origin of an image in an OCI layout.
type layout struct {
	files *os.Root
	top   digest.Digest
}

func layoutPath(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

func (l *layout) root(ctx context.Context) ([]byte, error) {
	data, err := l.document(ctx, l.top)
	if err == nil && digest.FromBytes(data) != l.top {
		err = fmt.Errorf("image: %w: manifest %s has digest %s", ErrCorrupt, l.top, digest.FromBytes(data))
	}
	return data, err
}

func (l *layout) document(_ context.Context, d digest.Digest) ([]byte, error) {
	data, err := readDocument(l.files, layoutPath(d), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("image: %w: manifest %s is not in the layout", ErrNotFound, d)
	}
	return data, err
}

func (l *layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, err := l.files.Open(layoutPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image: %w: blob %s is not in the layout", ErrNotFound, d.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return f, nil
}

// readDocument reads a file of the layout or archive that is not larger than limit.
func readDocument(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("image: %w: %s is larger than %d bytes", ErrHostile, name, limit)
	}
	return data, nil
}

// explode unpacks an archive of blobs: plain files, directories and links between them, nothing else.
func explode(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := decompress(&cancelable{ctx, f})
	if err != nil {
		return err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return corruptUnlessCanceled(err)
		}
		name, err := clean(h.Name)
		if err == nil && name != "" {
			err = explodeEntry(root, name, h, archive)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func explodeEntry(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
	default:
		return nil
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeSymlink: // os.Root follows it only as far as it stays inside
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		target, err := clean(h.Linkname)
		if err != nil {
			return err
		}
		return root.Link(target, name)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(onlyWriter{f}, content)
	return errors.Join(err, f.Close())
}

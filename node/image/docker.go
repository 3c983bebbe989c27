package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerManifestFile lists the images of what "docker save" writes.
const dockerManifestFile = "manifest.json"

// dockerImages lists the images of a docker archive. It has no manifests: they are made here, of what the files'
// digests turn out to be, so the image's digest is not the one that its registry knows.
func dockerImages(root *os.Root) ([]foundImage, error) {
	data, err := readDocument(root, dockerManifestFile, maxManifest)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("image: %w: %s: %w", ErrCorrupt, dockerManifestFile, err)
	}
	var out []foundImage
	for _, item := range list {
		a, err := newDockerArchive(root, item.Config, item.Layers)
		if err != nil {
			return nil, err
		}
		found := foundImage{origin: a}
		for _, tag := range item.RepoTags {
			name, err := Normalize(tag)
			if err != nil {
				return nil, err
			}
			found.names = append(found.names, name)
		}
		out = append(out, found)
	}
	return out, nil
}

// dockerArchive is the origin of an image in a docker archive.
type dockerArchive struct {
	files    *os.Root
	manifest []byte
	paths    map[digest.Digest]string
}

func newDockerArchive(root *os.Root, config string, layers []string) (*dockerArchive, error) {
	a := &dockerArchive{files: root, paths: map[digest.Digest]string{}}
	var err error
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	if m.Config, err = a.describe(config, v1.MediaTypeImageConfig); err != nil {
		return nil, err
	}
	for _, layer := range layers {
		d, err := a.describe(layer, v1.MediaTypeImageLayer) // unpacking looks for compression itself
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	if a.manifest, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return a, nil
}

// describe computes a file's digest and size.
func (a *dockerArchive) describe(name, mediaType string) (v1.Descriptor, error) {
	f, err := a.files.Open(path.Clean(name))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("image: %w: %v", ErrCorrupt, err) // not fs.ErrNotExist: manifest.json does exist
	}
	defer f.Close()
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), f)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("image: %w", err)
	}
	a.paths[h.Digest()] = path.Clean(name)
	return v1.Descriptor{MediaType: mediaType, Digest: h.Digest(), Size: n}, nil
}

func (a *dockerArchive) root(context.Context) ([]byte, error) { return bytes.Clone(a.manifest), nil }

func (a *dockerArchive) document(_ context.Context, d digest.Digest) ([]byte, error) {
	return nil, fmt.Errorf("image: %w: manifest %s", ErrNotFound, d)
}

func (a *dockerArchive) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	name, ok := a.paths[d.Digest]
	if !ok {
		return nil, fmt.Errorf("image: %w: %w: blob %s", ErrCorrupt, fs.ErrNotExist, d.Digest)
	}
	f, err := a.files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return f, nil
}

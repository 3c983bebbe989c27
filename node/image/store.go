package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDownloads is how many layers are fetched at once, over all pulls of a store.
const maxDownloads = 4

// Store is the images under one directory. Safe for concurrent use, also by several processes.
type Store struct {
	dir       string
	downloads chan struct{} // one token a download in progress
	flights   flights

	mu      sync.Mutex
	configs map[digest.Digest]v1.ImageConfig // configurations never change
}

// Image is an image that is whole and unpacked.
type Image struct {
	// Ref is its name, normalised; "" if it has none.
	Ref string
	// ID is the digest of its configuration, "sha256:<hex>": equal images have equal IDs.
	ID string
	// Digest is what Ref stood for where it came from: the digest of the manifest, or of the index of manifests for
	// several platforms.
	Digest string
	// Digested means exactly this image: "<repository>@<digest>", what Kubernetes reports as imageID.
	Digested string
	// Size is the bytes of configuration and layers as they came, compressed or not.
	Size int64
	// Added is when it was pulled or loaded. LastUsed is when a container last used it, Added where none has.
	Added, LastUsed time.Time
	// Pulled: it came from a registry.
	Pulled bool
	// Config is how to run it.
	Config v1.ImageConfig
	// Layers are the directories of its layers, lowest first, to be used read-only.
	Layers []string
}

// Open opens the store in dir, which it makes if need be.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	for _, d := range []string{"", "blobs", "blobs/sha256", "layers", "partial", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	s := &Store{dir: dir, downloads: make(chan struct{}, maxDownloads), configs: map[digest.Digest]v1.ImageConfig{}}
	if _, err := s.readIndex(); err != nil {
		return nil, err
	}
	return s, nil
}

// Get finds an image by any spelling of its name, by "name@digest", or by its ID or the beginning of it. The bool says
// whether there is one.
func (s *Store) Get(ref string) (Image, bool, error) {
	x, err := s.readIndex()
	if err != nil {
		return Image{}, false, err
	}
	i, err := x.find(ref)
	if err != nil || i < 0 {
		return Image{}, false, err
	}
	img, err := s.image(x.Images[i])
	return img, err == nil, err
}

// List returns all images, one for each name, in the order of names.
func (s *Store) List() ([]Image, error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	out := make([]Image, 0, len(x.Images))
	for _, e := range x.Images {
		img, err := s.image(e)
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// Tag gives the image that ref means another name. A name that exists moves.
func (s *Store) Tag(ctx context.Context, ref, name string) (Image, error) {
	named, err := Normalize(name)
	if err != nil {
		return Image{}, err
	}
	unlock, err := s.lockAdding(ctx)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	var e entry
	err = s.changeIndex(func(x *index) error {
		i, err := x.find(ref)
		if err != nil {
			return err
		}
		if i < 0 {
			return fmt.Errorf("image: %w: %s", ErrNotFound, ref)
		}
		e = x.Images[i]
		e.Ref = named
		x.put(e)
		return nil
	})
	if err != nil {
		return Image{}, err
	}
	return s.image(e)
}

// Used notes that a container uses the image with that ID. The configuration's time is where that is kept: the index
// need not be written for it.
func (s *Store) Used(id string, now time.Time) error {
	d := digest.Digest(id)
	if err := check(d); err != nil {
		return err
	}
	if err := os.Chtimes(s.blobPath(d), now, now); err != nil {
		return fmt.Errorf("image: noting the use of %s: %w", id, err)
	}
	return nil
}

// image completes an entry with what is in its configuration.
func (s *Store) image(e entry) (Image, error) {
	config, err := s.config(e.ID)
	if err != nil {
		return Image{}, err
	}
	img := Image{
		Ref: e.Ref, ID: e.ID.String(), Digest: e.Digest.String(), Digested: e.digested(),
		Size: e.Size, Added: e.Added, LastUsed: e.Added, Pulled: e.Pulled, Config: config,
	}
	if info, err := os.Stat(s.blobPath(e.ID)); err == nil && info.ModTime().After(e.Added) {
		img.LastUsed = info.ModTime()
	}
	for _, chain := range e.Chain {
		img.Layers = append(img.Layers, s.layerPath(chain))
	}
	return img, nil
}

// config reads a configuration, once. What it returns is a copy as far as callers are likely to change it.
func (s *Store) config(id digest.Digest) (v1.ImageConfig, error) {
	s.mu.Lock()
	c, known := s.configs[id]
	s.mu.Unlock()
	if !known {
		data, err := os.ReadFile(s.blobPath(id))
		if err != nil {
			return c, fmt.Errorf("image: configuration of %s: %w", id, err)
		}
		var full v1.Image
		if err := json.Unmarshal(data, &full); err != nil {
			return c, fmt.Errorf("image: %w: configuration of %s: %w", ErrCorrupt, id, err)
		}
		c = full.Config
		s.mu.Lock()
		s.configs[id] = c
		s.mu.Unlock()
	}
	c.Env, c.Entrypoint, c.Cmd = slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	return c, nil
}

func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", "sha256", d.Encoded())
}

func (s *Store) layerPath(chain digest.Digest) string {
	return filepath.Join(s.dir, "layers", chain.Encoded())
}

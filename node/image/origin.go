package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Documents larger than these are not read: no honest image comes near.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
)

// origin is where an image comes from. The bytes it returns are not trusted.
type origin interface {
	// root is the manifest, or index of manifests, that the image's name stands for.
	root(ctx context.Context) ([]byte, error)
	// document returns another manifest by its digest.
	document(ctx context.Context, d digest.Digest) ([]byte, error)
	// blob opens a configuration or a layer. The caller closes it.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// resolved is the image of this node's platform behind a name.
type resolved struct {
	top      digest.Digest // of the document the name stands for
	digest   digest.Digest // of the manifest
	raw      []byte        // the manifest
	manifest v1.Manifest
}

// resolve reads the origin's root and, through at most a few indexes, the manifest for this platform.
func resolve(ctx context.Context, o origin) (resolved, error) {
	data, err := o.root(ctx)
	if err != nil {
		return resolved{}, err
	}
	top := digest.FromBytes(data)
	d := top
	for range 4 {
		var both struct {
			v1.Manifest
			Manifests []v1.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(data, &both); err != nil {
			return resolved{}, fmt.Errorf("image: %w: manifest %s: %w", ErrCorrupt, d, err)
		}
		if both.Manifests != nil && (both.Config.Digest != "" || both.Layers != nil) {
			return resolved{}, fmt.Errorf("image: %w: %s is a manifest and an index at once", ErrHostile, d)
		}
		if both.Manifests == nil {
			if both.SchemaVersion != 2 || both.Config.Digest == "" {
				return resolved{}, fmt.Errorf("image: %w: manifest %s has media type %q, schema version %d",
					ErrUnsupported, d, both.MediaType, both.SchemaVersion)
			}
			return resolved{top: top, digest: d, raw: data, manifest: both.Manifest}, nil
		}
		next, err := forThisPlatform(both.Manifests)
		if err != nil {
			return resolved{}, fmt.Errorf("image: index %s: %w", d, err)
		}
		if err := check(next.Digest); err != nil {
			return resolved{}, err
		}
		if data, err = o.document(ctx, next.Digest); err != nil {
			return resolved{}, err
		}
		if got := digest.FromBytes(data); got != next.Digest {
			return resolved{}, fmt.Errorf("image: %w: manifest %s has digest %s", ErrCorrupt, next.Digest, got)
		}
		d = next.Digest
	}
	return resolved{}, fmt.Errorf("image: %w: indexes of indexes of indexes", ErrUnsupported)
}

// forThisPlatform chooses among manifests: this operating system and architecture, in the variant that most machines
// are. A lone manifest that does not say what it is for is taken at its word.
func forThisPlatform(all []v1.Descriptor) (v1.Descriptor, error) {
	best, rank := -1, 0
	var offered []string
	for i, m := range all {
		p := m.Platform
		if p == nil {
			if len(all) == 1 {
				return m, nil
			}
			continue
		}
		offered = append(offered, p.OS+"/"+p.Architecture+p.Variant)
		if p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
			continue
		}
		r := 1
		switch {
		case p.Variant == "" || p.Variant == "v8" && p.Architecture == "arm64":
			r = 3
		case p.Variant == "v7" && p.Architecture == "arm":
			r = 2
		case p.Architecture == "amd64":
			continue // v2 and up are for newer processors than this one may be
		}
		if r > rank {
			best, rank = i, r
		}
	}
	if best < 0 {
		return v1.Descriptor{}, fmt.Errorf("%w: no manifest for %s/%s among %q", ErrUnsupported, runtime.GOOS, runtime.GOARCH, offered)
	}
	return all[best], nil
}

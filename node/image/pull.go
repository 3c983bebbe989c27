package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullOptions say how to reach a registry.
type PullOptions struct {
	// DockerConfigs are contents of docker configuration files, as image pull secrets carry them. All that fit are
	// tried, then none.
	DockerConfigs [][]byte
	// PlainHTTP names hosts ("host" or "host:port") that speak HTTP without TLS. Loopback addresses do anyway.
	PlainHTTP []string
	// Transport replaces how requests are made. Default: the client's own, which honours HTTPS_PROXY.
	Transport http.RoundTripper
	// Progress is told how far it is, from several goroutines. It must not block.
	Progress func(Progress)
}

// Pull gets an image from its registry, whether the store has it or not: whoever wants the one that is there asks
// Get. Layers that are there are not fetched again. Callers who want the same reference with the same credentials at
// the same time share one pull.
//
// Errors are ErrInvalidName, ErrNotFound, ErrUnauthorized, ErrUnavailable, ErrCorrupt, ErrHostile, ErrUnsupported,
// those of ctx, and those of the disk.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	named, err := parse(ref)
	if err != nil {
		return Image{}, err
	}
	credentials, err := parseDockerConfigs(o.DockerConfigs)
	if err != nil {
		return Image{}, err
	}
	hash := sha256.New()
	for _, c := range o.DockerConfigs {
		fmt.Fprintf(hash, "%d:%s", len(c), c)
	}
	key := fmt.Sprintf("%s %x", named, hash.Sum(nil))
	img, err := s.flights.join(ctx, key, o.Progress, func(ctx context.Context, report func(Progress)) (Image, error) {
		return s.pull(ctx, named, o, credentials, report)
	})
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", named, err)
	}
	return img, nil
}

func (s *Store) pull(ctx context.Context, named reference.Named, o PullOptions, credentials []credential, report func(Progress)) (Image, error) {
	reg, err := newRegistry(named, o)
	if err != nil {
		return Image{}, err
	}
	// Several secrets may name one registry, and not all need to be right.
	var refused error
	for _, auth := range candidates(credentials, reference.Domain(named), reference.Path(named)) {
		origin, err := reg.as(auth)
		if err != nil {
			return Image{}, err
		}
		images, err := s.add(ctx, origin, []string{named.String()}, report)
		if err == nil {
			return images[0], nil
		}
		if !errors.Is(err, ErrUnauthorized) {
			return Image{}, err
		}
		if refused == nil {
			refused = err // that of the best fitting credential tells most
		}
	}
	return Image{}, refused
}

// registry is the origin of images in a registry.
type registry struct {
	ref       name.Reference
	want      digest.Digest // "" for a tag
	transport http.RoundTripper
	puller    *remote.Puller // keeps tokens and connections of one credential
}

func newRegistry(named reference.Named, o PullOptions) (*registry, error) {
	var options []name.Option
	if slices.Contains(o.PlainHTTP, reference.Domain(named)) {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(named.String(), options...)
	if err != nil {
		return nil, fmt.Errorf("image: %w: %w", ErrInvalidName, err)
	}
	r := &registry{ref: ref, transport: o.Transport}
	if d, ok := named.(reference.Digested); ok {
		r.want = d.Digest()
		if err := check(r.want); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// as is the same registry with the given credentials.
func (r *registry) as(auth authn.Authenticator) (*registry, error) {
	options := []remote.Option{remote.WithAuth(auth), remote.WithUserAgent("orlog")}
	if r.transport != nil {
		options = append(options, remote.WithTransport(r.transport))
	}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return nil, fmt.Errorf("image: registry client: %w", err)
	}
	other := *r
	other.puller = puller
	return &other, nil
}

func (r *registry) root(ctx context.Context) ([]byte, error) {
	data, err := r.manifest(ctx, r.ref)
	if err == nil && r.want != "" && digest.FromBytes(data) != r.want {
		err = fmt.Errorf("image: %w: the registry answered %s with %s", ErrCorrupt, r.want, digest.FromBytes(data))
	}
	return data, err
}

func (r *registry) document(ctx context.Context, d digest.Digest) ([]byte, error) {
	return r.manifest(ctx, r.ref.Context().Digest(d.String()))
}

func (r *registry) manifest(ctx context.Context, ref name.Reference) ([]byte, error) {
	got, err := r.puller.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("image: manifest: %w", classify(err))
	}
	if len(got.Manifest) > maxManifest {
		return nil, fmt.Errorf("image: %w: manifest of %d bytes", ErrHostile, len(got.Manifest))
	}
	return got.Manifest, nil
}

func (r *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	layer, err := r.puller.Layer(ctx, r.ref.Context().Digest(d.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("image: blob %s: %w", d.Digest, classify(err))
	}
	body, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("image: blob %s: %w", d.Digest, classify(err))
	}
	return body, nil
}

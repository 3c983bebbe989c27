package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

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
	// Mirrors are asked before a registry itself, in this order, by the registry's host ("docker.io"). Each is a host
	// or host:port, perhaps with a path that its repositories are below; "http://" before it is for one without TLS.
	Mirrors map[string][]string
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

// pull asks the mirrors, then the registry itself, whose error is the one that counts.
func (s *Store) pull(ctx context.Context, named reference.Named, o PullOptions, credentials []credential, report func(Progress)) (Image, error) {
	var failed []string
	for _, m := range append(slices.Clone(o.Mirrors[reference.Domain(named)]), "") {
		img, err := s.pullFrom(ctx, m, named, o, credentials, report)
		switch {
		case err == nil:
			return img, nil
		case m == "" && len(failed) > 0:
			return Image{}, fmt.Errorf("%w (before that %s)", err, strings.Join(failed, "; "))
		case m == "" || ctx.Err() != nil:
			return Image{}, err
		}
		failed = append(failed, fmt.Sprintf("mirror %s: %v", m, err))
	}
	panic("unreachable: the registry itself is last")
}

// pullFrom pulls from one place, with each credential that fits it.
func (s *Store) pullFrom(ctx context.Context, mirror string, named reference.Named, o PullOptions, credentials []credential, report func(Progress)) (Image, error) {
	reg, err := newRegistry(mirror, named, o)
	if err != nil {
		return Image{}, err
	}
	// Several secrets may name one registry, and not all need to be right.
	var refused error
	host := reference.Domain(named)
	if mirror != "" {
		host = reg.ref.Context().RegistryStr()
	}
	for _, auth := range candidates(credentials, host, reference.Path(named)) {
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

const userAgent = "orlog"

// registry is the origin of images in a registry.
type registry struct {
	ref       name.Reference
	want      digest.Digest // "" for a tag
	transport http.RoundTripper
	auth      authn.Authenticator
	puller    *remote.Puller // keeps tokens and connections of one credential
}

// newRegistry is where an image is: its own registry or, where that is not "", a mirror of it.
func newRegistry(mirror string, named reference.Named, o PullOptions) (*registry, error) {
	text, host, plain := named.String(), reference.Domain(named), false
	if mirror != "" {
		mirror, plain = strings.CutPrefix(mirror, "http://")
		mirror = strings.TrimSuffix(strings.TrimPrefix(mirror, "https://"), "/")
		text = mirror + "/" + strings.TrimPrefix(text, host+"/")
		host, _, _ = strings.Cut(mirror, "/")
	}
	var options []name.Option
	if plain || slices.Contains(o.PlainHTTP, host) {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(text, options...)
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
	options := []remote.Option{remote.WithAuth(auth), remote.WithUserAgent(userAgent)}
	if r.transport != nil {
		options = append(options, remote.WithTransport(r.transport))
	}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return nil, fmt.Errorf("image: registry client: %w", err)
	}
	other := *r
	other.auth, other.puller = auth, puller
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
	live, cancel := context.WithTimeoutCause(ctx, stallAfter, errStalled)
	defer cancel()
	got, err := r.puller.Get(live, ref)
	if err != nil && ctx.Err() == nil && live.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, errStalled)
	}
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

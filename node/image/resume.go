package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// resumer is an origin that can go on in the middle of a blob.
type resumer interface {
	// blobFrom opens a blob at a position, which is in it and not 0. What it opens begins at the position returned:
	// that one, or 0. The caller closes it.
	blobFrom(ctx context.Context, d v1.Descriptor, from int64) (body io.ReadCloser, at int64, err error)
}

// blobFrom asks for the rest of a blob by an HTTP range, which the registry client does not do.
func (r *registry) blobFrom(ctx context.Context, d v1.Descriptor, from int64) (io.ReadCloser, int64, error) {
	client, err := r.plain(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("image: blob %s: %w", d.Digest, classify(err))
	}
	repo := r.ref.Context()
	u := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: fmt.Sprintf("/v2/%s/blobs/%s", repo.RepositoryStr(), d.Digest)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("image: blob %s: %w", d.Digest, err)
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, d.Size-1))
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("image: blob %s: %w", d.Digest, classify(err))
	}
	switch resp.StatusCode {
	case http.StatusOK: // it knows nothing of ranges
		return resp.Body, 0, nil
	case http.StatusPartialContent:
		var at int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &at); err == nil && at == from {
			return resp.Body, from, nil
		}
		fallthrough
	case http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		body, err := r.blob(ctx, d)
		return body, 0, err
	}
	defer resp.Body.Close()
	return nil, 0, fmt.Errorf("image: blob %s: %w", d.Digest, classify(transport.CheckError(resp, http.StatusOK)))
}

// plain is an HTTP client that the registry has let in.
func (r *registry) plain(ctx context.Context) (*http.Client, error) {
	repo, base := r.ref.Context(), r.transport
	if base == nil {
		base = remote.DefaultTransport
	}
	t, err := transport.NewWithContext(ctx, repo.Registry, r.auth, transport.NewUserAgent(base, userAgent), []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

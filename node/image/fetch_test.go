package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A connection over which nothing comes any more counts as broken, and the next one goes on from there.
func TestFetchGivesAStalledConnectionUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		o := &stalling{data: bytes.Repeat([]byte("0123456789abcdef"), 1<<10), stalls: 2}
		layer := v1.Descriptor{Digest: digest.FromBytes(o.data), Size: int64(len(o.data))}
		d, err := s.beginDownload(o, layer, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		begun := time.Now()
		if err := s.fetch(t.Context(), o, d, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 2*stallAfter+fetchBackoff+2*fetchBackoff {
			t.Errorf("it took %v", took)
		}
		if want := []int64{0, layer.Size / 2, layer.Size * 3 / 4}; !slices.Equal(o.from, want) {
			t.Errorf("asked from %v, want %v", o.from, want)
		}
		o.stalls = 3
		other := layer
		other.Digest = digest.FromString("another")
		e, err := s.beginDownload(o, other, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		if err := s.fetch(t.Context(), o, e, func(Progress) {}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errStalled) {
			t.Errorf("three times nothing: %v", err)
		}
	})
}

// stalling is an origin whose blob stops in the middle, once.
type stalling struct {
	data   []byte
	stalls int
	from   []int64
}

func (o *stalling) root(context.Context) ([]byte, error) { return nil, errors.ErrUnsupported }

func (o *stalling) document(context.Context, digest.Digest) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

func (o *stalling) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	body, _, err := o.blobFrom(ctx, d, 0)
	return body, err
}

func (o *stalling) blobFrom(ctx context.Context, _ v1.Descriptor, from int64) (io.ReadCloser, int64, error) {
	o.from = append(o.from, from)
	if o.stalls == 0 {
		return io.NopCloser(bytes.NewReader(o.data[from:])), from, nil
	}
	o.stalls--
	half := o.data[from : (from+int64(len(o.data)))/2]
	return io.NopCloser(io.MultiReader(bytes.NewReader(half), readFunc(func([]byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() }))), from, nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

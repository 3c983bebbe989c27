package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// maxZstdWindow bounds the memory a zstd stream may ask for; encoders at their highest levels use this much.
const maxZstdWindow = 128 << 20

// unpack makes the directory dir out of the layer in file blob. parents are the directories of the layers below,
// lowest first. diff is the digest of the layer's uncompressed archive. On failure dir may exist, half done.
func unpack(ctx context.Context, blob, dir, mediaType string, diff digest.Digest, parents []string) error {
	if strings.Contains(mediaType, "encrypted") {
		return fmt.Errorf("%w: media type %s", ErrUnsupported, mediaType)
	}
	f, err := os.Open(blob)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	plain, err := decompress(f)
	if err != nil {
		return err
	}
	defer plain.Close()
	verifier := diff.Verifier()
	stream := io.TeeReader(&cancelable{ctx, plain}, verifier)
	if err := extract(tar.NewReader(stream), dir, parents); err != nil {
		return err
	}
	// Padding after the archive's end counts for the digest.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("%w: unpacked, it does not match its digest %s", ErrCorrupt, diff)
	}
	return nil
}

// decompress recognises compression by the first bytes: media types are often wrong.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("image: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
		}
		return z, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// cancelable ends a long read with its context.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

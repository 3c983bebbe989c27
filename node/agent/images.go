package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/orlog-io/orlog/node/image"
)

// imageStore is an *image.Store as Images.
type imageStore struct {
	*image.Store
	plainHTTP []string
	transport http.RoundTripper // to registries
}

// Get returns an image that is in the store.
func (s imageStore) Get(ref string) (Image, bool, error) {
	img, here, err := s.Store.Get(ref)
	return imageOf(img), here, invalid(err)
}

// Pull fetches an image into the store.
func (s imageStore) Pull(ctx context.Context, ref string, dockerConfigs [][]byte) (Image, error) {
	img, err := s.Store.Pull(ctx, ref, image.PullOptions{DockerConfigs: dockerConfigs, PlainHTTP: s.plainHTTP, Transport: s.transport})
	return imageOf(img), invalid(err)
}

// invalid marks the error that no retry helps against.
func invalid(err error) error {
	if errors.Is(err, image.ErrInvalidName) {
		return fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	return err
}

func imageOf(img image.Image) Image {
	id := img.Digested
	if id == "" {
		id = img.ID
	}
	c := img.Config
	return Image{ID: id, Size: img.Size, Layers: img.Layers, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, Cwd: c.WorkingDir, StopSignal: c.StopSignal}
}

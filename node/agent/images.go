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
	mirrors   map[string][]string
	transport http.RoundTripper // to registries
}

// Get returns an image that is in the store.
func (s imageStore) Get(ref string) (Image, bool, error) {
	img, here, err := s.Store.Get(ref)
	return imageOf(img), here, known(err)
}

// Pull fetches an image into the store.
func (s imageStore) Pull(ctx context.Context, ref string, dockerConfigs [][]byte, progress func(image.Progress)) (Image, error) {
	img, err := s.Store.Pull(ctx, ref, image.PullOptions{DockerConfigs: dockerConfigs, PlainHTTP: s.plainHTTP, Mirrors: s.mirrors, Transport: s.transport, Progress: progress})
	return imageOf(img), known(err)
}

// All returns all images of the store.
func (s imageStore) All() ([]image.Image, error) { return s.List() }

// known marks the errors that pods have reasons of their own for.
func known(err error) error {
	switch {
	case errors.Is(err, image.ErrInvalidName):
		return fmt.Errorf("%w: %w", ErrInvalidImage, err)
	case errors.Is(err, image.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrRegistryUnavailable, err)
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

package agent

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/runc"
)

// Runtime runs containers: *runc.Runtime.
type Runtime interface {
	OpenSandbox(ctx context.Context, s runc.Sandbox) error
	Run(ctx context.Context, sandboxID string, c runc.Container) (runc.Status, error)
	Status(ctx context.Context, sandboxID string) ([]runc.Status, error)
	Sandboxes(ctx context.Context) ([]runc.Sandbox, error)
	Events() <-chan runc.Event
	Signal(ctx context.Context, sandboxID, containerID string, sig syscall.Signal) error
	Remove(ctx context.Context, sandboxID, containerID string) error
	UpdateSandbox(ctx context.Context, sandboxID string, to runc.Resources) error
	UpdateContainer(ctx context.Context, sandboxID, containerID string, to runc.Resources) error
	CloseSandbox(ctx context.Context, sandboxID string) error
}

// Exec runs a command in a container and returns its exit code and the beginning of its combined output.
type Exec func(ctx context.Context, sandboxID, containerID string, args []string) (code int, output string, err error)

// Image is an unpacked image.
type Image struct {
	// ID is the image's identity as statuses show it (repository@digest where known).
	ID         string
	Size       int64
	Layers     []string // unpacked folders, lowest first
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	Cwd        string
	StopSignal string
}

// Images provides images.
type Images interface {
	// Get returns an image that is here.
	Get(ref string) (Image, bool, error)
	// Pull fetches an image. Errors match ErrInvalidImage where the reference makes no sense, ErrRegistryUnavailable
	// where the registry cannot be reached or does not work. dockerConfigs are contents of image pull secrets. progress
	// is told of each layer, from several goroutines, and must not block.
	Pull(ctx context.Context, ref string, dockerConfigs [][]byte, progress func(image.Progress)) (Image, error)
	// All returns all images that are here, one for each name.
	All() ([]image.Image, error)
}

var (
	// ErrInvalidImage: the reference is not one.
	ErrInvalidImage = errors.New("invalid image name")
	// ErrRegistryUnavailable: the registry cannot be reached or does not work; later it may.
	ErrRegistryUnavailable = errors.New("registry is unavailable")
)

// Attachment is a pod's place in the network.
type Attachment struct {
	NetNS string
	IPs   []netip.Addr
}

// Network connects pods.
type Network interface {
	Setup(ctx context.Context, podUID, namespace, name string) (Attachment, error)
	Teardown(ctx context.Context, podUID string) error
	List() []string
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What can be wrong with a pull, a load or a lookup. Errors of this package wrap one of these, or a context's, or
// are those of the local file system.
var (
	// ErrInvalidName: the reference cannot be parsed; no retry helps.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNotFound: the registry, the file or the store does not have it.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized: the registry wants other credentials. Registries say this of repositories that do not exist, too.
	ErrUnauthorized = errors.New("not authorized")
	// ErrUnavailable: the registry cannot be reached or is overloaded; a retry may help.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrCorrupt: bytes do not match their digest, or the image contradicts itself.
	ErrCorrupt = errors.New("image corrupt")
	// ErrHostile: the image tries what no honest image does.
	ErrHostile = errors.New("image refused")
	// ErrUnsupported: a format or platform that this node cannot use.
	ErrUnsupported = errors.New("image not supported")
	// ErrInUse: a container still uses it.
	ErrInUse = errors.New("image in use")
)

// classify wraps an error of the registry client into one of ours. Errors of the local disk stay what they are.
func classify(err error) error {
	_, local := errors.AsType[*fs.PathError](err)
	if err == nil || local || ours(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	kind := ErrUnavailable
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = ErrUnauthorized
		case http.StatusNotFound, http.StatusGone:
			kind = ErrNotFound
		case http.StatusBadRequest:
			kind = ErrInvalidName
		}
	}
	// The client verifies digests as well, but does not export the errors that say so.
	for _, sign := range []string{"error verifying", "does not match requested digest"} {
		if strings.Contains(err.Error(), sign) {
			kind = ErrCorrupt
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func ours(err error) bool {
	for _, kind := range []error{ErrInvalidName, ErrNotFound, ErrUnauthorized, ErrUnavailable, ErrCorrupt, ErrHostile, ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

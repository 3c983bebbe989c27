package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Normalize spells a reference the way the store does: "nginx" is docker.io/library/nginx:latest. A reference with
// both tag and digest loses the tag: the digest decides. The error is ErrInvalidName.
func Normalize(ref string) (string, error) {
	named, err := parse(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

func parse(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("image: %w: %q: %w", ErrInvalidName, ref, err)
	}
	return named, nil
}

// hexID matches an image ID without its algorithm, whole or at least six digits of it.
var hexID = regexp.MustCompile(`^[0-9a-f]{6,64}$`)

// find returns the position of the image that ref means, or -1. In this order: its name, its digest under that
// name, its ID or the beginning of it.
func (x *index) find(ref string) (int, error) {
	if id, isDigest := strings.CutPrefix(ref, "sha256:"); isDigest || (len(ref) == 64 && hexID.MatchString(ref)) {
		return x.findID(id)
	}
	named, err := parse(ref)
	if err != nil {
		return -1, err
	}
	for i, e := range x.Images {
		if e.Ref == named.String() {
			return i, nil
		}
	}
	if d, ok := named.(reference.Digested); ok {
		for i, e := range x.Images {
			if (e.Digest == d.Digest() || e.Manifest == d.Digest()) && e.repository() == named.Name() {
				return i, nil
			}
		}
		return -1, nil
	}
	if hexID.MatchString(ref) {
		return x.findID(ref)
	}
	return -1, nil
}

// findID finds an image by the beginning of its ID or manifest digest; one that fits several images is an error.
func (x *index) findID(prefix string) (int, error) {
	if !hexID.MatchString(prefix) {
		return -1, fmt.Errorf("image: %w: %q is no image ID", ErrInvalidName, prefix)
	}
	found := -1
	for i, e := range x.Images {
		if !strings.HasPrefix(e.ID.Encoded(), prefix) && e.Manifest.Encoded() != prefix && e.Digest.Encoded() != prefix {
			continue
		}
		if found >= 0 && x.Images[found].ID != e.ID {
			return -1, fmt.Errorf("image: %w: ID %s fits several images", ErrInvalidName, prefix)
		}
		if found < 0 {
			found = i
		}
	}
	return found, nil
}

// repository is the name without tag or digest, "" for an image without a name.
func (e *entry) repository() string {
	named, err := reference.ParseNormalizedNamed(e.Ref)
	if err != nil {
		return ""
	}
	return named.Name()
}

// digested is the reference that means exactly this image, for whoever wants it again: repository@digest.
func (e *entry) digested() string {
	if name := e.repository(); name != "" {
		return name + "@" + e.Digest.String()
	}
	return e.ID.String()
}

// check says whether a digest is one that file names can be made of.
func check(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("image: %w: digest %q is not SHA-256", ErrUnsupported, d)
	}
	return nil
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// Remove takes a name away, any spelling of it; an ID takes all names of its image. What no other image shares is
// deleted, except layers in inUse, the directories that containers are mounted on (as in Image.Layers): those go with
// a later Remove or Collect. ErrNotFound if there is no such image, ErrInUse if ref is an ID and inUse has its uppermost
// layer.
func (s *Store) Remove(ctx context.Context, ref string, inUse map[string]bool) error {
	err := s.changeIndex(func(x *index) error {
		i, err := x.find(ref)
		if err != nil {
			return err
		}
		if i < 0 {
			return fmt.Errorf("image: %w: %s", ErrNotFound, ref)
		}
		gone := x.Images[i]
		if named, err := Normalize(ref); err == nil && named == gone.Ref {
			x.Images = append(x.Images[:i], x.Images[i+1:]...)
			return nil
		}
		// Its lower layers may be others' too; the uppermost, named by all below it, is this image's.
		if n := len(gone.Chain); n > 0 && inUse[s.layerPath(gone.Chain[n-1])] {
			return fmt.Errorf("image: %w: %s", ErrInUse, ref)
		}
		var rest []entry
		for _, e := range x.Images {
			if e.ID != gone.ID {
				rest = append(rest, e)
			}
		}
		x.Images = rest
		return nil
	})
	if err != nil {
		return err
	}
	return s.Collect(ctx, inUse)
}

// Collect deletes layers and blobs that no image in the index needs and that are not in inUse, and what interrupted
// pulls left and nobody has gone on with for a day. While somebody adds an image it does nothing: what is garbage now
// is garbage later.
func (s *Store) Collect(ctx context.Context, inUse map[string]bool) error {
	return s.collect(ctx, inUse, false)
}

// collect is Collect; pressed: what interrupted pulls left goes at once.
func (s *Store) collect(ctx context.Context, inUse map[string]bool, pressed bool) error {
	unlock, err := s.tryLockCollecting()
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	x, err := s.readIndex()
	if err != nil {
		return err
	}
	layers, blobs := map[string]bool{}, map[string]bool{}
	for _, e := range x.Images {
		for _, d := range []digest.Digest{e.ID, e.Manifest} {
			blobs[d.Encoded()] = true
		}
		for _, c := range e.Chain {
			layers[c.Encoded()] = true
		}
	}
	trash := filepath.Join(s.dir, "tmp")
	err = s.sweep(ctx, filepath.Join(s.dir, "layers"), func(name string) bool {
		return layers[name] || inUse[filepath.Join(s.dir, "layers", name)]
	}, trash)
	if err == nil {
		err = s.sweep(ctx, filepath.Join(s.dir, "blobs", "sha256"), func(name string) bool { return blobs[name] }, trash)
	}
	if err == nil {
		err = s.sweep(ctx, trash, func(string) bool { return false }, "")
	}
	if err == nil {
		age := keepPartial
		if pressed {
			age = 0
		}
		err = s.sweepPartial(age)
	}
	return err
}

// sweep deletes from dir what keep does not want. Through trash, if it is given, so that a layer is there as a whole
// or not at all.
func (s *Store) sweep(ctx context.Context, dir string, keep func(name string) bool, trash string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("image: collect: %w", err)
	}
	for _, e := range entries {
		if keep(e.Name()) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("image: collect: %w", err)
		}
		path := filepath.Join(dir, e.Name())
		if trash != "" {
			to := filepath.Join(trash, "gone-"+e.Name())
			if err := os.Rename(path, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("image: collect: %w", err)
			}
			path = to
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("image: collect: %w", err)
		}
	}
	return nil
}

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Progress is how far adding an image has come.
type Progress struct {
	// Layer is the digest of the layer this is about.
	Layer string
	// Done and Total are its bytes fetched so far and in all.
	Done, Total int64
	// Unpacked is true once it is a directory.
	Unpacked bool
}

// add makes the image of an origin part of the store under the given normalised names; without names it is found
// by its ID alone. report may be nil; it is called from several goroutines.
func (s *Store) add(ctx context.Context, o origin, names []string, report func(Progress)) ([]Image, error) {
	_, pulled := o.(*registry)
	if report == nil {
		report = func(Progress) {}
	}
	unlock, err := s.lockAdding(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := resolve(ctx, o)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(ctx, o, r.manifest.Config)
	if err != nil {
		return nil, err
	}
	var parsed v1.Image
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, fmt.Errorf("image: %w: configuration: %w", ErrCorrupt, err)
	}
	chain, err := chainIDs(r.manifest.Layers, parsed.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	if err := s.addLayers(ctx, o, r.manifest.Layers, parsed.RootFS.DiffIDs, chain, report); err != nil {
		return nil, err
	}
	blobs := filepath.Join(s.dir, "blobs", "sha256")
	for d, data := range map[digest.Digest][]byte{r.manifest.Config.Digest: config, r.digest: r.raw} {
		if err := writeDurably(blobs, d.Encoded(), data); err != nil {
			return nil, err
		}
	}
	e := entry{
		ID: r.manifest.Config.Digest, Manifest: r.digest, Digest: r.top, Chain: chain,
		Size: int64(len(config)), Added: time.Now().UTC().Truncate(time.Second), Pulled: pulled,
	}
	for _, l := range r.manifest.Layers {
		e.Size += l.Size
	}
	return s.name(e, names)
}

// name writes the finished image into the index.
func (s *Store) name(e entry, names []string) ([]Image, error) {
	if len(names) == 0 {
		names = []string{""}
	}
	err := s.changeIndex(func(x *index) error {
		for _, e.Ref = range names {
			x.put(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, e.Ref = range names {
		img, err := s.image(e)
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// readConfig reads and verifies the configuration.
func readConfig(ctx context.Context, o origin, d v1.Descriptor) ([]byte, error) {
	if err := check(d.Digest); err != nil {
		return nil, err
	}
	r, err := o.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("image: configuration %s: %w", d.Digest, classify(err))
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("image: %w: configuration %s has digest %s", ErrCorrupt, d.Digest, got)
	}
	return data, nil
}

// chainIDs computes the OCI chain IDs: each layer together with all below it.
func chainIDs(layers []v1.Descriptor, diffs []digest.Digest) ([]digest.Digest, error) {
	if len(layers) != len(diffs) {
		return nil, fmt.Errorf("image: %w: %d layers, but the configuration speaks of %d", ErrCorrupt, len(layers), len(diffs))
	}
	var out []digest.Digest
	for i, d := range diffs {
		if err := errors.Join(check(d), check(layers[i].Digest)); err != nil {
			return nil, err
		}
		if i > 0 {
			d = digest.FromString(out[i-1].String() + " " + d.String())
		}
		out = append(out, d)
	}
	return out, nil
}

// addLayers fetches the layers that are missing, several at once, and unpacks them in order, each as soon as it and
// all below it are there. All become visible at the end, after one sync for all. What was fetched when something fails
// stays for the next try.
func (s *Store) addLayers(ctx context.Context, o origin, layers []v1.Descriptor, diffs, chain []digest.Digest, report func(Progress)) error {
	stage, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "add-")
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer os.RemoveAll(stage)
	missing, downloads, err := s.missing(o, layers, chain, stage, report)
	defer func() {
		for _, d := range downloads {
			d.close()
		}
	}()
	if err != nil || len(missing) == 0 {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, i := range missing {
		group.Go(func() error {
			err := s.fetch(ctx, o, downloads[i], report)
			downloads[i].fetched <- err == nil
			return err
		})
	}
	group.Go(func() error { return s.unpackAll(ctx, layers, diffs, chain, downloads, stage, report) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.publish(stage, chain, missing); err != nil {
		return err
	}
	for _, d := range downloads {
		if err := d.remove(); err != nil {
			return err
		}
	}
	return nil
}

// missing finds the layers that are not there, by position, and begins the download of each.
func (s *Store) missing(o origin, layers []v1.Descriptor, chain []digest.Digest, stage string, report func(Progress)) ([]int, map[int]*download, error) {
	var missing []int
	downloads := map[int]*download{}
	for i, l := range layers {
		_, err := os.Stat(s.layerPath(chain[i]))
		switch {
		case err == nil:
			report(Progress{Layer: l.Digest.String(), Done: l.Size, Total: l.Size, Unpacked: true})
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return nil, downloads, fmt.Errorf("image: layer: %w", err)
		}
		d, err := s.beginDownload(o, l, stage)
		if err != nil {
			return nil, downloads, err
		}
		missing, downloads[i] = append(missing, i), d
		report(Progress{Layer: l.Digest.String(), Total: l.Size})
	}
	return missing, downloads, nil
}

// unpackAll unpacks the layers that are being fetched into stage, lowest first.
func (s *Store) unpackAll(ctx context.Context, layers []v1.Descriptor, diffs, chain []digest.Digest, downloads map[int]*download, stage string, report func(Progress)) error {
	parents := make([]string, 0, len(layers))
	for i, l := range layers {
		path := s.layerPath(chain[i])
		if d := downloads[i]; d != nil {
			if !<-d.fetched {
				return nil // fetch's error ends the group
			}
			path = filepath.Join(stage, chain[i].Encoded())
			if err := unpack(ctx, d.file.Name(), path, l.MediaType, diffs[i], parents); err != nil {
				if errors.Is(err, ErrHostile) || errors.Is(err, ErrCorrupt) {
					err = errors.Join(err, d.remove()) // nobody will want these bytes again
				}
				return fmt.Errorf("image: layer %s: %w", l.Digest, err)
			}
			report(Progress{Layer: l.Digest.String(), Done: l.Size, Total: l.Size, Unpacked: true})
		}
		parents = append(parents, path)
	}
	return nil
}

// publish moves finished layers to their places, after their content is on the disk.
func (s *Store) publish(stage string, chain []digest.Digest, missing []int) error {
	dir, err := os.Open(stage)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	err = unix.Syncfs(int(dir.Fd()))
	dir.Close()
	if err != nil {
		return fmt.Errorf("image: sync layers: %w", err)
	}
	for _, i := range missing {
		err := os.Rename(filepath.Join(stage, chain[i].Encoded()), s.layerPath(chain[i]))
		// Somebody else may have unpacked the same layer meanwhile: theirs is as good, and may be in use.
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("image: publish layer: %w", err)
		}
	}
	return syncDir(filepath.Join(s.dir, "layers"))
}

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

// A layer is asked for this often, with this wait after the first failure, doubled after each other.
const (
	fetchAttempts = 3
	fetchBackoff  = 200 * time.Millisecond
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
		Size: int64(len(config)), Added: time.Now().UTC().Truncate(time.Second),
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
// all below it are there. All become visible at the end, after one sync for all.
func (s *Store) addLayers(ctx context.Context, o origin, layers []v1.Descriptor, diffs, chain []digest.Digest, report func(Progress)) error {
	stage, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "add-")
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer os.RemoveAll(stage)
	fetched := make([]chan string, len(layers)) // the path of the blob
	group, ctx := errgroup.WithContext(ctx)
	var missing []int
	for i := range layers {
		if _, err := os.Stat(s.layerPath(chain[i])); err == nil {
			report(Progress{Layer: layers[i].Digest.String(), Done: layers[i].Size, Total: layers[i].Size, Unpacked: true})
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("image: layer: %w", err)
		}
		missing = append(missing, i)
		fetched[i] = make(chan string, 1)
		group.Go(func() error {
			path, err := s.fetch(ctx, o, layers[i], stage, report)
			fetched[i] <- path
			return err
		})
	}
	if len(missing) == 0 {
		return group.Wait()
	}
	group.Go(func() error {
		parents := make([]string, 0, len(layers))
		for i := range layers {
			path := s.layerPath(chain[i])
			if fetched[i] != nil {
				blob := <-fetched[i]
				if blob == "" {
					return nil // fetch's error ends the group
				}
				path = filepath.Join(stage, chain[i].Encoded())
				if err := unpack(ctx, blob, path, layers[i].MediaType, diffs[i], parents); err != nil {
					return fmt.Errorf("image: layer %s: %w", layers[i].Digest, err)
				}
				if err := os.Remove(blob); err != nil {
					return fmt.Errorf("image: %w", err)
				}
				report(Progress{Layer: layers[i].Digest.String(), Done: layers[i].Size, Total: layers[i].Size, Unpacked: true})
			}
			parents = append(parents, path)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return s.publish(stage, chain, missing)
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

// fetch gets a layer, trying again where that may help: a connection that breaks need not cost the other layers.
// It returns the path of the verified blob in dir, "" with an error.
func (s *Store) fetch(ctx context.Context, o origin, d v1.Descriptor, dir string, report func(Progress)) (string, error) {
	wait := fetchBackoff
	for attempt := 1; ; attempt++ {
		path, err := s.fetchOnce(ctx, o, d, dir, report)
		if !errors.Is(err, ErrUnavailable) || attempt == fetchAttempts {
			return path, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return "", err
		}
		wait *= 2
	}
}

func (s *Store) fetchOnce(ctx context.Context, o origin, d v1.Descriptor, dir string, report func(Progress)) (string, error) {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	r, err := o.blob(ctx, d)
	if err != nil {
		return "", err
	}
	defer r.Close()
	f, err := os.CreateTemp(dir, "blob-")
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	verifier := d.Digest.Verifier()
	meter := &meter{progress: Progress{Layer: d.Digest.String(), Total: d.Size}, report: report}
	n, err := io.Copy(io.MultiWriter(f, verifier, meter), io.LimitReader(r, d.Size+1))
	if err != nil {
		return "", fmt.Errorf("image: layer %s: %w", d.Digest, classify(err))
	}
	if n != d.Size || !verifier.Verified() {
		return "", fmt.Errorf("image: %w: layer %s: its %d bytes do not match its digest and size %d", ErrCorrupt, d.Digest, n, d.Size)
	}
	return f.Name(), nil
}

// meter reports bytes as they are written, every megabyte and at the end.
type meter struct {
	progress Progress
	told     int64
	report   func(Progress)
}

func (m *meter) Write(p []byte) (int, error) {
	m.progress.Done += int64(len(p))
	if m.progress.Done-m.told >= 1<<20 || m.progress.Done == m.progress.Total {
		m.told = m.progress.Done
		m.report(m.progress)
	}
	return len(p), nil
}

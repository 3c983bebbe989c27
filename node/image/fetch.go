package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// A layer is asked for this often in a row, with this wait after the first failure, doubled after each other. A try
	// that brought this many bytes is no failure: a bad line gets there in the end.
	fetchAttempts = 3
	fetchBackoff  = 200 * time.Millisecond
	fetchWorth    = 1 << 20
	// stallAfter is how long a registry may send nothing before the connection counts as broken.
	stallAfter = time.Minute
)

var (
	errStalled = errors.New("nothing came for " + stallAfter.String())
	// errStale: the bytes that were here from an earlier try are not the layer's beginning, as after a power loss.
	errStale = errors.New("what was kept of an interrupted download is damaged")
)

// fetch gets a layer, trying again where that may help: a connection that breaks need not cost what has come already,
// nor the other layers. After it the file holds the verified blob.
func (s *Store) fetch(ctx context.Context, o origin, d *download, report func(Progress)) error {
	wait, failures, stale := fetchBackoff, 0, false
	for {
		gained, err := s.fetchOnce(ctx, o, d, report)
		switch {
		case errors.Is(err, errStale) && !stale:
			stale = true
			continue
		case errors.Is(err, errStale):
			return fmt.Errorf("image: %w: %w", ErrCorrupt, err)
		case !errors.Is(err, ErrUnavailable):
			return err
		}
		if failures++; gained >= fetchWorth {
			failures, wait = 1, fetchBackoff
		}
		if failures >= fetchAttempts {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
		wait *= 2
	}
}

// fetchOnce fetches what is missing of a layer over one connection, and returns how many bytes came.
func (s *Store) fetchOnce(ctx context.Context, o origin, d *download, report func(Progress)) (gained int64, err error) {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	had, hashed, err := d.resume()
	if err != nil {
		return 0, err
	}
	m := &meter{progress: Progress{Layer: d.layer.Digest.String(), Done: had, Total: d.layer.Size}, report: report}
	if had == d.layer.Size {
		return 0, d.verify(had, had, hashed, m)
	}
	live, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.alive = time.AfterFunc(stallAfter, func() { cancel(errStalled) })
	defer m.alive.Stop()
	broken := func(err error) error {
		if errors.Is(context.Cause(live), errStalled) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, errStalled)
		}
		return fmt.Errorf("image: layer %s: %w", d.layer.Digest, classify(err))
	}
	body, at, err := open(live, o, d, had)
	if err != nil {
		return 0, broken(err)
	}
	defer body.Close()
	if at != had {
		if hashed, err = d.restart(); err != nil {
			return 0, err
		}
		had, m.progress.Done = 0, 0
	}
	gained, err = io.Copy(io.MultiWriter(d.file, hashed, m), io.LimitReader(body, d.layer.Size-had+1))
	if err != nil {
		err = broken(err)
		if errors.Is(err, ErrCorrupt) {
			_, again := d.restart()
			err = errors.Join(err, again)
		}
		return gained, err
	}
	return gained, d.verify(had, had+gained, hashed, m)
}

// open asks an origin for a layer from a position on. The answer begins there or, where the origin cannot do that, at
// the beginning.
func open(ctx context.Context, o origin, d *download, from int64) (body io.ReadCloser, at int64, err error) {
	if r, can := o.(resumer); can && from > 0 {
		return r.blobFrom(ctx, d.layer, from)
	}
	body, err = o.blob(ctx, d.layer)
	return body, 0, err
}

// resume finds out how many bytes are here from an earlier try, and hashes them. The file's position is their end.
func (d *download) resume() (had int64, hashed hash.Hash, err error) {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return 0, nil, fmt.Errorf("image: %w", err)
	}
	hashed = digest.SHA256.Hash()
	had, err = io.Copy(hashed, d.file)
	if err != nil {
		return 0, nil, fmt.Errorf("image: %w", err)
	}
	if had > d.layer.Size {
		hashed, err = d.restart()
		return 0, hashed, err
	}
	return had, hashed, nil
}

// restart throws away what is here.
func (d *download) restart() (hash.Hash, error) {
	_, err := d.file.Seek(0, io.SeekStart)
	if err = errors.Join(err, d.file.Truncate(0)); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return digest.SHA256.Hash(), nil
}

// verify compares the whole file with what it should be. had of its bytes were there before.
func (d *download) verify(had, size int64, hashed hash.Hash, m *meter) error {
	if got := digest.NewDigest(digest.SHA256, hashed); size == d.layer.Size && got == d.layer.Digest {
		m.report(m.progress)
		return nil
	}
	if _, err := d.restart(); err != nil {
		return err
	}
	if had > 0 {
		return fmt.Errorf("layer %s: %w", d.layer.Digest, errStale)
	}
	return fmt.Errorf("image: %w: layer %s: its %d bytes do not match its digest and size %d", ErrCorrupt, d.layer.Digest, size, d.layer.Size)
}

// meter reports bytes as they are written, every megabyte, and keeps the connection from being taken for a broken one.
type meter struct {
	progress Progress
	told     int64
	report   func(Progress)
	alive    *time.Timer
}

func (m *meter) Write(p []byte) (int, error) {
	m.alive.Reset(stallAfter)
	m.progress.Done += int64(len(p))
	if m.progress.Done-m.told >= 1<<20 {
		m.told = m.progress.Done
		m.report(m.progress)
	}
	return len(p), nil
}

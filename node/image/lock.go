package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Two locks, both flocks, so that they hold among processes and end with them:
//
//   - "lock" is held for the moment in which the index is read, changed and written.
//   - "adding" is shared by all who add images, from before they look which layers exist until the image is in the
//     index, and exclusive for whoever removes what the index does not name. So nobody's layer vanishes between
//     being found and being named.

func (s *Store) lockIndex() (unlock func(), err error) {
	return flock(context.Background(), filepath.Join(s.dir, "lock"), unix.LOCK_EX)
}

// lockAdding waits while somebody collects garbage.
func (s *Store) lockAdding(ctx context.Context) (unlock func(), err error) {
	return flock(ctx, filepath.Join(s.dir, "adding"), unix.LOCK_SH)
}

// tryLockCollecting returns nil, nil if somebody is adding an image.
func (s *Store) tryLockCollecting() (unlock func(), err error) {
	f, err := openLock(filepath.Join(s.dir, "adding"))
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, nil
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("image: lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// flock takes a lock or gives up with ctx. The lock ends when its file is closed.
func flock(ctx context.Context, path string, how int) (unlock func(), err error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() {
		for {
			if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
				locked <- err
				return
			}
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("image: lock %s: %w", path, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { // flock cannot be interrupted: whoever holds the lock ends the wait
			<-locked //nolint:errcheck // nobody waits for it any more
			f.Close()
		}()
		return nil, fmt.Errorf("image: lock %s: %w", path, ctx.Err())
	}
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("image: lock: %w", err)
	}
	return f, nil
}

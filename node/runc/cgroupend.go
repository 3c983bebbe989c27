package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kill kills every process in a cgroup and below it and returns when none is left.
func (c cgroups) kill(ctx context.Context, path string) error {
	dir := filepath.Join(c.lists(), path)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if c.v2 {
			// One write for the whole tree (kernel 5.14); the walk below is for older kernels and waits.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o200)
		}
		left, err := killTree(dir)
		if err != nil {
			return fmt.Errorf("kill the processes in %s: %w", dir, err)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill the processes in %s: %d left: %w", dir, left, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func killTree(dir string) (found int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.Name() != "cgroup.procs" {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				found++
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		return nil
	})
	return found, err
}

// remove takes a cgroup and those below it away, in every hierarchy.
func (c cgroups) remove(ctx context.Context, path string) error {
	for _, at := range c.mounts {
		dir := filepath.Join(at, path)
		for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
			err := removeTree(dir)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			// The last process has ended but the kernel is not done with it.
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup: %w (%w)", err, ctx.Err())
			case <-time.After(wait):
			}
		}
	}
	return nil
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	entries, rerr := os.ReadDir(dir)
	if errors.Is(rerr, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err = unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

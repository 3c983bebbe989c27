//go:build system

package systemtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
)

// readable are the parts of a node's data that others than root may read, and why. All of it lies in a folder of
// mode 0700, which on the host keeps everybody else out: containers get at what is mounted into them.
var readable = map[string]string{
	"node/images":              "layers keep the modes that the image gives its files; what else is there says what the layers are",
	"node/volumes":             "volumes have the modes that the pod asks for: processes in containers need not be root",
	"node/pods":                "hosts, resolv.conf and termination messages are for processes in containers, whoever they are",
	"node/logs":                "what containers print",
	"orlogd/notary/key.pub":    "whoever is to check a checkpoint needs it",
	"orlogd/notary/checkpoint": "a signed statement, made to be passed on",
	"node/network/netns":       "network namespaces, with the kernel's own mode",
	"node/network/ipam":        "addresses that are given out: the plugin's own files",
}

// checkPrivate walks what orlogd and the agent keep: folders are of mode 0700, files of 0600, and what stands
// beside them for clients too.
func (c *cluster) checkPrivate() error {
	var errs []error
	for _, name := range []string{"kubeconfig", "node.kubeconfig", "node.nats", "integrator.nats", "orlogd", "node"} {
		root := filepath.Join(c.dir, name)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path != root {
				return nil // gone while walking: both processes still run
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(c.dir, path)
			if err != nil {
				return err
			}
			if _, known := readable[rel]; known && d.IsDir() {
				return fs.SkipDir
			} else if known {
				return nil
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.Type()&fs.ModeSymlink == 0 && info.Mode().Perm()&0o077 != 0 {
				errs = append(errs, fmt.Errorf("%s is %v", rel, info.Mode()))
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// TestFilesArePrivate is the same check as at the end of all tests: here it says sooner what is wrong.
func TestFilesArePrivate(t *testing.T) {
	if err := the.checkPrivate(); err != nil {
		t.Error(err)
	}
}

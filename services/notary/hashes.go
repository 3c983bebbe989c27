package notary

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/mod/sumdb/tlog"
)

// hashes stores the tree: every complete subtree's hash, in the dense order of tlog.StoredHashIndex, 32 bytes
// each, in a file that only grows. What is added waits in memory until sync.
type hashes struct {
	file   *os.File
	size   int64 // events
	tail   []byte
	synced atomic.Int64 // hashes in the file; the rest is the tail
}

func openHashes(path string) (*hashes, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &hashes{file: f}, nil
}

// adopt takes the file to hold the first size events, cutting off what is past them. False: it holds too
// little, or leads to another root.
func (h *hashes) adopt(size int64, root tlog.Hash) (bool, error) {
	info, err := h.file.Stat()
	if err != nil {
		return false, err
	}
	want := tlog.StoredHashCount(size)
	if info.Size() < want*tlog.HashSize {
		return false, nil
	}
	h.size, h.tail = size, nil
	h.synced.Store(want)
	got, err := tlog.TreeHash(size, h)
	if err != nil || got != root {
		return false, err
	}
	return true, h.file.Truncate(want * tlog.HashSize)
}

// reset empties the tree.
func (h *hashes) reset() error {
	h.size, h.tail = 0, nil
	h.synced.Store(0)
	return h.file.Truncate(0)
}

// add appends a leaf.
func (h *hashes) add(leaf tlog.Hash) error {
	stored, err := tlog.StoredHashesForRecordHash(h.size, leaf, h)
	if err != nil {
		return err
	}
	for _, s := range stored {
		h.tail = append(h.tail, s[:]...)
	}
	h.size++
	return nil
}

// sync writes what is pending to the disk.
func (h *hashes) sync() error {
	if len(h.tail) == 0 {
		return nil
	}
	if _, err := h.file.WriteAt(h.tail, h.synced.Load()*tlog.HashSize); err != nil {
		return err
	}
	if err := h.file.Sync(); err != nil {
		return err
	}
	h.synced.Add(int64(len(h.tail)) / tlog.HashSize)
	h.tail = h.tail[:0]
	return nil
}

// ReadHashes implements tlog.HashReader.
func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	synced := h.synced.Load()
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= synced {
			from := (at - synced) * tlog.HashSize
			if from+tlog.HashSize > int64(len(h.tail)) {
				return nil, fmt.Errorf("hash %d is past the end of the tree", at)
			}
			copy(out[i][:], h.tail[from:])
			continue
		}
		if err := readHash(h.file, at, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// holds reports whether the file holds the whole tree of so many events.
func (h *hashes) holds(size int64) bool { return h.synced.Load() >= tlog.StoredHashCount(size) }

// fileReader reads the hashes that are in the file for good, while others are being added.
type fileReader struct{ file *os.File }

// ReadHashes implements tlog.HashReader.
func (r fileReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if err := readHash(r.file, at, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readHash(f *os.File, at int64, to *tlog.Hash) error {
	if _, err := f.ReadAt(to[:], at*tlog.HashSize); err != nil {
		return fmt.Errorf("hash %d of %s: %w", at, f.Name(), err)
	}
	return nil
}

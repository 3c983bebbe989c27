package jetstream

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// The server writes an atomic batch twice: first it stages it, in files of its own below <stream>/batches that it
// syncs one by one, then it writes it to the stream and syncs that once. What was staged serves one purpose: where
// the server dies while it writes, it completes the batch from there. Several appends of one caller need that. A
// group of appends that have nothing to do with each other does not: where the power fails before they are
// acknowledged, any part of them may be on the log, as if each had been published for itself.
//
// So a group's batch is staged in memory: what the server is going to create as a directory is put there before as
// a link to one in memory. If the server itself is killed, the memory outlives it and the batch is completed.
// Where there is no such memory, or a server does not take the link, groups are staged on disk.

// staging is where the groups of one stream are staged.
type staging struct {
	batches string // the server's directory of staged batches
	room    string // ours, in memory

	mu       sync.Mutex
	off      bool   // it is not used any more
	previous string // the directory of the group before, of which the server may still be taking leave
}

// stagingRoom makes the directory in memory for a server that has its files in dir, anew: what a server that was
// killed left in it has been used or is of no use. It errs where there is no memory to be had as a directory.
func stagingRoom(dir string) (string, error) {
	rooms, err := stagingRooms(dir)
	if err != nil {
		return "", err
	}
	for _, room := range rooms {
		if err = newPrivateDir(room); err == nil {
			return room, nil
		}
	}
	return "", err
}

// stagingRooms are the directories that may serve, the best first; at least one. They are named by the number of
// the directory with the server's files, so that no two servers share one, and one that starts again finds its own.
func stagingRooms(dir string) ([]string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	id, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("files have no numbers here")
	}
	var rooms []string
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if parent != "" && inMemory(parent) {
			rooms = append(rooms, filepath.Join(parent, fmt.Sprintf("orlog-staging-%d-%d", id.Dev, id.Ino)))
		}
	}
	if rooms == nil {
		return nil, errors.New("neither $XDG_RUNTIME_DIR nor /dev/shm is a file system in memory")
	}
	return rooms, nil
}

// newPrivateDir makes an empty directory that nobody else may enter. Whatever has its name must be ours.
func newPrivateDir(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Mkdir(path, 0o700)
	} else if err != nil {
		return err
	}
	if id, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int64(id.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("%s is somebody else's", path)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
}

// staging is nil where a stream's groups are staged on disk.
func (s *Server) staging(stream string) *staging {
	if s.room == "" {
		return nil
	}
	account := logAccount
	if s.o.Access == nil {
		account = server.DEFAULT_GLOBAL_ACCOUNT
	}
	at := filepath.Join(s.o.Dir, server.JetStreamStoreDir, account, "streams", stream)
	return &staging{batches: filepath.Join(at, "batches"), room: s.room}
}

func (s *staging) inMemory() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.off
}

// place makes the server stage a batch (of that ID; "" for one that is staged on disk) in memory, and says where that
// is; "" if on disk. Groups of one stream come one after the other. An error is one that ends staging in memory; it is
// said once.
func (s *staging) place(batch string) (target string, err error) {
	if s == nil || batch == "" {
		return "", nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return "", nil
	}
	name := stagedName(batch)
	target = filepath.Join(s.room, name)
	err = os.Mkdir(target, 0o700)
	if err == nil {
		if err = os.MkdirAll(s.batches, 0o700); err == nil {
			err = os.Symlink(target, filepath.Join(s.batches, name))
		}
		if err != nil {
			err = errors.Join(err, os.Remove(target))
		}
	}
	if err != nil {
		s.off = true
		return "", fmt.Errorf("batches are staged on disk from here on, which is slower: %w", err)
	}
	return target, nil
}

// placed is to be called when a batch's answer has come. The directory stays until the next group's has come: the
// server answers first and cleans up after that. A batch that was refused need not have been staged at all.
func (s *staging) placed(target string, refused bool) error {
	if target == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	previous := s.previous
	s.previous = target
	if previous != "" {
		if err := os.RemoveAll(previous); err != nil {
			return fmt.Errorf("what the server has staged: %w", err)
		}
	}
	if used, err := os.ReadDir(target); refused || err == nil && len(used) > 0 {
		return nil
	}
	s.off = true
	return errors.Join(errors.New("batches are staged on disk, which is slower: the server does not stage them where it should"),
		os.Remove(filepath.Join(s.batches, filepath.Base(target))))
}

// stagedName is what the server calls the directory in which it stages a batch.
func stagedName(batch string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(batch))
	name := sum[:8]
	for i, b := range name {
		name[i] = digits[int(b)%len(digits)]
	}
	return string(name)
}

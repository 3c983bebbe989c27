package jetstream

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/orlog-io/orlog/events"
)

// A server that cannot read a stream at its start (its files are damaged, or encrypted with a key that it was not
// given) says so in its log, goes on without the stream, and removes the files when somebody creates it anew, if
// not at once. So what is on disk before the start is compared with what the server has after it.

// storedStreams are the streams of which there are files, by account: <dir>/jetstream/<account>/streams/<name>.
func storedStreams(dir string) (map[string][]string, error) {
	root := filepath.Join(dir, server.JetStreamStoreDir)
	found, err := filepath.Glob(filepath.Join(root, "*", "streams", "*"))
	if err != nil {
		return nil, fmt.Errorf("log server in %s: %w", dir, err)
	}
	streams := map[string][]string{}
	for _, path := range found {
		files, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("log server in %s: %w", dir, err)
		}
		if len(files) == 0 { // what is left of a stream that was being made
			continue
		}
		account := filepath.Base(filepath.Dir(filepath.Dir(path)))
		streams[account] = append(streams[account], filepath.Base(path))
	}
	return streams, nil
}

// checkLoaded says which of our streams that had files before the start the server does not have.
func checkLoaded(s *server.Server, stored map[string][]string) error {
	info, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return fmt.Errorf("asking what was loaded: %w", err)
	}
	loaded := map[[2]string]bool{}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			loaded[[2]string{account.Name, stream.Name}] = true
		}
	}
	for account, names := range stored {
		if _, err := s.LookupAccount(account); err != nil {
			continue // of no use any more: nobody can reach its streams
		}
		for _, name := range []string{StreamName, VolatileStreamName} {
			if slices.Contains(names, name) && !loaded[[2]string{account, name}] {
				return fmt.Errorf("%w: there were files of stream %s, but the server could not load it: they are damaged, or encrypted with a key that this server was not given. "+
					"Nothing is created in its place. Restore the directory from a backup (or start a server that has the key on it) before this one is started on it again", events.ErrGap, name)
			}
		}
	}
	return nil
}

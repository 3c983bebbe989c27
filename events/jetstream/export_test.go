package jetstream

import (
	"testing"
	"time"
)

// WithDedupe makes the server forget message IDs after d, where the stream is made by this connection.
func (o Options) WithDedupe(d time.Duration) Options {
	o.dedupe = d
	return o
}

// StagingRoom is where a server that has its files in dir stages groups.
func StagingRoom(t testing.TB, dir string) string {
	t.Helper()
	rooms, err := stagingRooms(dir)
	if err != nil {
		t.Fatal(err)
	}
	return rooms[0]
}

// StagedName is stagedName.
var StagedName = stagedName

package notary

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/orlog-io/orlog/events"
)

// leafVersion begins every leaf, so that another layout can never be taken for this one.
const leafVersion = "orlog leaf v1\n"

// Leaf is what the tree holds of an event: its sequence (8 bytes, big endian), its subject, its headers
// sorted by name and its payload, as they stand in the log. Each string is preceded by its length, and the
// headers by their number (8 bytes each).
func Leaf(e events.Event) ([]byte, error) {
	w, err := events.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("leaf of event %d: %w", e.Sequence, err)
	}
	b := make([]byte, 0, len(leafVersion)+len(w.Subject)+len(w.Data)+1024)
	b = binary.BigEndian.AppendUint64(append(b, leafVersion...), uint64(e.Sequence))
	b = appendPart(b, w.Subject)
	b = binary.BigEndian.AppendUint64(b, uint64(len(w.Header)))
	for _, name := range slices.Sorted(maps.Keys(w.Header)) {
		b = appendPart(appendPart(b, name), w.Header[name])
	}
	return appendPart(b, w.Data), nil
}

func appendPart[T string | []byte](b []byte, part T) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(part))), part...)
}

func leafHash(e events.Event) (tlog.Hash, error) {
	b, err := Leaf(e)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.RecordHash(b), nil
}

package projections

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/orlog-io/orlog/events"
)

// The first byte of every row key: which keyspace the row is in. See doc.go.
const (
	spaceMeta    = 'm'
	spaceLive    = 'l'
	spaceDead    = 'd'
	spaceHistory = 'h'
	spaceEvent   = 'e'
	spaceNode    = 'n'
	spaceOwner   = 'o'
)

var (
	metaFormat   = []byte{spaceMeta, 'f'}
	metaPosition = []byte{spaceMeta, 'p'}
	metaFloor    = []byte{spaceMeta, 'r'}
)

// appendToken writes a string so that tokens compare as the strings do, whatever follows them: a zero byte
// becomes 00 FF, and the end is 00 01.
func appendToken(b []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			return append(append(b, s...), 0, 1)
		}
		b = append(append(b, s[:i]...), 0, 0xff)
		s = s[i+1:]
	}
}

// cutToken reads what appendToken wrote and returns what follows it.
func cutToken(b []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i >= 0 && i+1 < len(b) && b[i+1] == 1 { // no zero byte within: nearly always
		return string(b[:i]), b[i+2:], true
	}
	var out []byte
	for i >= 0 && i+1 < len(b) {
		out = append(out, b[:i]...)
		end := b[i+1] == 1
		if b = b[i+2:]; end {
			return string(out), b, true
		}
		out = append(out, 0)
		i = bytes.IndexByte(b, 0)
	}
	return "", nil, false
}

// appendKey writes an object's key: its four parts as tokens, so that rows sort by group, resource,
// namespace and name.
func appendKey(b []byte, k events.Key) []byte {
	return appendToken(appendToken(appendToken(appendToken(b, k.Group), k.Resource), k.Namespace), k.Name)
}

func cutKey(b []byte) (k events.Key, rest []byte, err error) {
	rest = b
	for _, part := range []*string{&k.Group, &k.Resource, &k.Namespace, &k.Name} {
		var ok bool
		if *part, rest, ok = cutToken(rest); !ok {
			return events.Key{}, nil, fmt.Errorf("row key %x is malformed", b)
		}
	}
	return k, rest, nil
}

func objectRow(space byte, k events.Key) []byte {
	return appendKey(append(make([]byte, 0, 48+len(k.Namespace)+len(k.Name)), space), k)
}

// appendVersion adds the sequence, inverted so that newer versions come first.
func appendVersion(row []byte, seq events.Sequence) []byte {
	return binary.BigEndian.AppendUint64(row, ^uint64(seq))
}

func versionRow(k events.Key, seq events.Sequence) []byte {
	return appendVersion(objectRow(spaceHistory, k), seq)
}

// versionOf reads the sequence at the end of a version's row key.
func versionOf(row []byte) events.Sequence {
	return events.Sequence(^binary.BigEndian.Uint64(row[len(row)-8:]))
}

func eventRow(seq events.Sequence) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceEvent}, uint64(seq))
}

func eventSequence(row []byte) events.Sequence {
	return events.Sequence(binary.BigEndian.Uint64(row[1:]))
}

func indexRow(space byte, term string, k events.Key) []byte {
	return appendKey(appendToken([]byte{space}, term), k)
}

// after is the first key past all that begin with the prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

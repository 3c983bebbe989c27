package projections

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/cockroachdb/pebble/v2"
)

// Digest is a hash (SHA-256, hex) over the position and every row of the store, history included: equal for
// two stores with the same options that folded the same log. It reads the whole store.
func (s *Store) Digest() (string, error) {
	v := s.Now()
	defer v.Close()
	if err := v.enter(); err != nil {
		return "", err
	}
	defer v.gate.leave()
	h := sha256.New()
	hashPart(h, binary.BigEndian.AppendUint64(nil, uint64(v.at)))
	if err := v.hashRows(h); err != nil {
		return "", fmt.Errorf("projection in %s: digest: %w", s.dir, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (v *View) hashRows(h hash.Hash) (err error) {
	it, err := v.snap.NewIter(&pebble.IterOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] != spaceMeta { // format and floor say how the store came to be, not what it holds
			hashPart(h, it.Key())
			hashPart(h, it.Value())
		}
	}
	return it.Error()
}

// Digest is a hash (SHA-256, hex) over the view's sequence and the state of every live object: equal for
// any two stores with the same Patterns, whatever history they have.
func (v *View) Digest() (string, error) {
	h := sha256.New()
	hashPart(h, binary.BigEndian.AppendUint64(nil, uint64(v.at)))
	var buf []byte
	for st, err := range v.List(Selector{}, "") {
		if err != nil {
			return "", err
		}
		buf = encodeRow(appendKey(buf[:0], st.Key), row{State: st}, false)
		hashPart(h, buf)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashPart hashes a part with its length, so that parts cannot run into each other.
func hashPart(h hash.Hash, part []byte) {
	h.Write(binary.AppendUvarint(nil, uint64(len(part)))) // a hash never fails to write
	h.Write(part)
}

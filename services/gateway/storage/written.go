package storage

import (
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/orlog-io/orlog/events"
)

// What is kept decoded: of how many of a resource's newest revisions, and up to which size. A larger object is rare,
// and would be held for long where little is written.
const (
	keepWritten = 32
	sharedUpTo  = 32 << 10 // bytes as stored
)

// written are the objects of the newest revisions, decoded. Each revision is wanted at about the same time by who
// wrote it and by the watches (mostly one: that of the API server's cache); decoding is most of what either costs.
type written struct {
	mu   sync.Mutex
	ring [keepWritten]*writtenObject // by revision
}

type writtenObject struct {
	revision events.Sequence
	decoded  func() (runtime.Object, error) // decodes at the first call
}

// at gives the place of a revision's object; nil where it has none.
func (w *written) at(revision events.Sequence, decode func() (runtime.Object, error)) *writtenObject {
	w.mu.Lock()
	defer w.mu.Unlock()
	place := &w.ring[uint64(revision)%keepWritten]
	if o := *place; o == nil || o.revision < revision {
		*place = &writtenObject{revision, sync.OnceValues(decode)}
	} else if o.revision > revision {
		return nil
	}
	return *place
}

// decodeShared is decodeNew for the object as the revision left it. It is shared: nobody may change it.
func (s *store) decodeShared(data []byte, revision events.Sequence) (runtime.Object, error) {
	decode := func() (runtime.Object, error) { return s.decodeNew(data, revision) }
	if len(data) <= sharedUpTo {
		if o := s.written.at(revision, decode); o != nil {
			return o.decoded()
		}
	}
	return decode()
}

// decodeWritten is decode for the object as the revision left it.
func (s *store) decodeWritten(data []byte, out runtime.Object, revision events.Sequence) error {
	obj, err := s.decodeShared(data, revision)
	if err != nil {
		return err
	}
	to, from := reflect.ValueOf(out), reflect.ValueOf(obj.DeepCopyObject())
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Type() != from.Type() {
		return fmt.Errorf("unable to give a %T as %T", obj, out)
	}
	to.Elem().Set(from.Elem())
	return nil
}

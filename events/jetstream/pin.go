package jetstream

import (
	"context"
	"errors"

	"github.com/orlog-io/orlog/events"
)

// In a replicated stream the server compares a guard with what is applied, and keeps appends that are still
// on their way to a majority apart by the guard's text alone. Two guards that are spelled differently but
// cover the same object (one on a class, one on the whole object) would both hold. So there, every append
// carries the same spelling for an object, the pattern of the object as a whole, and the guards that were
// asked for are looked at before: nothing about the object can come between the look and the append.

// pin checks the guards and sets the messages' own. An ConflictError names the guard that failed.
func (a *appending) pin(ctx context.Context) error {
	if a.log.replicas <= 1 {
		return nil
	}
	newest := map[events.Key]events.Sequence{}
	for i, e := range a.entries {
		key, object := e.Event.Subject.Key, e.Event.Subject.AnyClass()
		_, pinned := newest[key]
		if !pinned {
			seq, err := a.lastOn(ctx, object)
			if err != nil {
				return err
			}
			newest[key] = seq
		}
		delete(a.msgs[i].Header, headerExpected)
		delete(a.msgs[i].Header, headerExpectedSubject)
		if !pinned {
			a.msgs[i].Header[headerExpected] = []string{newest[key].String()}
			a.msgs[i].Header[headerExpectedSubject] = []string{a.log.onWire(object)}
		}
		if e.Expect == nil {
			continue
		}
		actual, err := newest[key], error(nil)
		if e.Expect.On != object {
			actual, err = a.lastOn(ctx, e.Expect.On)
		}
		if err != nil {
			return err
		}
		if actual != e.Expect.Last {
			return &events.ConflictError{On: e.Expect.On, Expected: e.Expect.Last, Actual: actual}
		}
	}
	return nil
}

func (a *appending) lastOn(ctx context.Context, pattern string) (events.Sequence, error) {
	e, err := a.log.LastOn(ctx, pattern)
	if errors.Is(err, events.ErrNotFound) {
		return 0, nil
	}
	return e.Sequence, err
}

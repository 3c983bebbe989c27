package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// catchUpLimit bounds how long a read waits for the projection to reach the log, where its context does not.
const catchUpLimit = 30 * time.Second

// Get implements storage.Interface.
func (s *store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	k, prepared, ok, err := s.object(key)
	if err != nil {
		return err
	}
	atLeast, err := s.minimum(opts.ResourceVersion)
	if err != nil {
		return err
	}
	view, err := s.view(ctx, 0, atLeast)
	if err != nil {
		return err
	}
	defer view.Close()
	var state events.State
	if ok {
		if state, ok, err = view.Get(k); err != nil {
			return s.failure("get", prepared, err)
		}
	}
	if !ok {
		if opts.IgnoreNotFound {
			return runtime.SetZeroValue(out)
		}
		return apistorage.NewKeyNotFoundError(prepared, 0)
	}
	return s.decodeState(state, out)
}

// minimum reads a "not older than" resourceVersion.
func (s *store) minimum(resourceVersion string) (events.Sequence, error) {
	if resourceVersion == "" {
		return 0, nil
	}
	rv, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return events.Sequence(rv), nil
}

// view opens the state that a read wants. exactly != 0: as of that sequence. Otherwise one not older than
// atLeast or, where that is 0, one holding everything appended before the call (resourceVersion "0" would
// allow an older one, but etcd never gives that). A request that travels in time gets its past instead, where
// that satisfies the rest.
func (s *store) view(ctx context.Context, exactly, atLeast events.Sequence) (*projections.View, error) {
	if past := SequenceFrom(ctx); past != 0 {
		if want := max(exactly, atLeast); want > past {
			return nil, apistorage.NewTooLargeResourceVersionError(uint64(want), uint64(past), 0)
		}
		if exactly == 0 {
			exactly = past
		}
	}
	if exactly != 0 {
		return s.at(ctx, exactly)
	}
	if atLeast == 0 {
		last, err := s.last(ctx)
		if err != nil {
			return nil, err
		}
		atLeast = last
	}
	return s.present(ctx, atLeast)
}

// at opens the state as of a sequence, which the log must have reached.
func (s *store) at(ctx context.Context, seq events.Sequence) (*projections.View, error) {
	if err := s.reach(ctx, seq); err != nil {
		return nil, err
	}
	view, err := s.proj.At(seq)
	if err != nil {
		return nil, s.failure("read", s.prefix, err)
	}
	return view, nil
}

// present opens the newest state, not older than atLeast, and never that of sequence 0.
func (s *store) present(ctx context.Context, atLeast events.Sequence) (*projections.View, error) {
	if err := s.reach(ctx, max(atLeast, 1)); err != nil {
		return nil, err
	}
	return s.proj.Now(), nil
}

// reach waits until the projection has folded seq. A sequence that the log has not reached is an error at
// once: "Too large resource version".
func (s *store) reach(ctx context.Context, seq events.Sequence) error {
	if s.proj.Position() >= seq {
		return nil
	}
	last, err := s.last(ctx)
	if err != nil {
		return err
	}
	if seq > last {
		return apistorage.NewTooLargeResourceVersionError(uint64(seq), uint64(last), 0)
	}
	return s.waitFor(ctx, seq)
}

// catchUp waits until the projection holds everything appended before the call.
func (s *store) catchUp(ctx context.Context) error {
	last, err := s.last(ctx)
	if err != nil {
		return err
	}
	return s.waitFor(ctx, last)
}

func (s *store) last(ctx context.Context) (events.Sequence, error) {
	last, err := s.log.Last(ctx)
	if err != nil {
		return 0, s.failure("asking the log for its end", s.prefix, err)
	}
	return last, nil
}

func (s *store) waitFor(ctx context.Context, seq events.Sequence) error {
	if s.proj.Position() >= seq {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpLimit)
	defer cancel()
	if err := s.proj.WaitFor(ctx, seq); err != nil {
		return s.failure("waiting for the projection", s.prefix, err)
	}
	return nil
}

const (
	expiredList     = "The resourceVersion for the provided list is too old."
	expiredWatch    = "The resourceVersion for the provided watch is too old."
	expiredContinue = "The provided continue parameter is too old to display a consistent list result. You can start a new list " +
		"without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
		"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
		"between the time the first chunk was returned and now may show up in the list."
)

// failure is an error of the log or the projection as upstream's registry understands it.
func (s *store) failure(doing, key string, err error) error {
	wrapped := fmt.Errorf("%s of %s: %w", doing, key, err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return apistorage.NewTimeoutError(key, wrapped.Error())
	case errors.Is(err, context.Canceled):
		return wrapped
	case errors.Is(err, projections.ErrTooOld):
		return apierrors.NewResourceExpired(expiredList)
	case errors.Is(err, events.ErrUnavailable), errors.Is(err, events.ErrClosed):
		s.logger.Warn("storage is unreachable", "error", wrapped)
		return apistorage.NewUnreachableError(key, 0)
	}
	return apistorage.NewInternalError(wrapped)
}

package events

import (
	"errors"
	"fmt"
)

// The few kinds of error that a caller acts on. Test with errors.Is; each is wrapped with the detail.
var (
	// ErrConflict: the log holds a newer event than the writer expected. Read again, decide again.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the input can never be accepted. Do not retry.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the log could not be reached or did not answer in time; the append may or may not have
	// happened. Retry with the same event ID: an append that did happen is recognised.
	ErrUnavailable = errors.New("log unavailable")
	// ErrGap: a reader of all subjects missed a sequence. Fatal: stop, and let a person look.
	ErrGap = errors.New("gap in the log")
	// ErrNotFound: there is no such event.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the log, store or subscription was closed.
	ErrClosed = errors.New("closed")
)

// ConflictError tells which expectation failed. It matches ErrConflict.
type ConflictError struct {
	// On is the subject pattern that was compared, Expected what the writer believed, Actual what the log
	// holds (0 where unknown or none).
	On               string
	Expected, Actual Sequence
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict on %s: expected last sequence %d, the log has %d", e.On, e.Expected, e.Actual)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

package jetstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// Append implements events.Log.
func (l *log) Append(ctx context.Context, entries ...events.Entry) ([]events.Sequence, error) {
	span, began := l.measures.began(entries)
	seqs, err := l.append(ctx, entries)
	l.measures.ended(span, began, seqs, err)
	return seqs, err
}

func (l *log) append(ctx context.Context, entries []events.Entry) ([]events.Sequence, error) {
	if err := l.closed("append"); err != nil {
		return nil, err
	}
	if err := events.CheckAppend(entries); err != nil {
		return nil, err
	}
	a := &appending{log: l, entries: slices.Clone(entries), began: time.Now()}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	var seqs []events.Sequence
	err := l.conn.retry(ctx, func(ctx context.Context, n int) (err error) {
		if err := l.closed("append"); err != nil {
			return err
		}
		if seqs, err = a.lookUp(ctx); err != nil || seqs != nil {
			return err
		}
		if n == 1 && l.replicas <= 1 { // a replicated stream gathers single appends by itself
			seqs, err = l.submit(ctx, a)
			return err
		}
		a.retried = a.retried || n > 1
		seqs, err = a.attempt(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("append %s about %s: %w", entries[0].Event.Type, entries[0].Event.Subject.Key, err)
	}
	return seqs, nil
}

// appending is one call of Append.
type appending struct {
	log     *log
	entries []events.Entry
	msgs    []*nats.Msg
	batch   string       // the batch's ID; "" for any
	bytes   int          // that the messages take, about
	done    chan outcome // of the first attempt
	// retried: the events may be on the log already, from an earlier attempt or an earlier call.
	retried bool
	// began is when the first attempt was made.
	began time.Time
	// lost counts the answers that said "duplicate" about events that are not to be found.
	lost int
}

// prepare encodes the entries, giving IDs where there are none.
func (a *appending) prepare() error {
	a.msgs = make([]*nats.Msg, len(a.entries))
	for i, e := range a.entries {
		if e.Event.ID == "" {
			e.Event.ID = rand.Text()
			a.entries[i] = e
		} else {
			a.retried = true
		}
		m, err := a.log.message(e)
		if err != nil {
			return err
		}
		a.msgs[i] = m
		a.bytes += len(m.Data) + len(e.Event.Reason) + 1024
	}
	return nil
}

// lookUp finds an append that may have succeeded so long ago that the server no longer recognises its message ID,
// where no guard would refuse it: publishing it again would double it. nil: it is not on the log, or the
// question does not arise.
func (a *appending) lookUp(ctx context.Context) ([]events.Sequence, error) {
	if !a.retried {
		return nil, nil
	}
	oldest := a.began
	for _, e := range a.entries {
		if e.Expect != nil && events.Matches(e.Expect.On, e.Event.Subject.String()) {
			return nil, nil
		}
		if e.Event.Time.Before(oldest) {
			oldest = e.Event.Time // an earlier call may have tried since then
		}
	}
	if time.Since(oldest) < a.log.conn.opts.dedupe/2 {
		return nil, nil
	}
	return a.find(ctx)
}

// attempt publishes once and makes sense of the answer.
func (a *appending) attempt(ctx context.Context) ([]events.Sequence, error) {
	if err := a.pin(ctx); errors.Is(err, events.ErrConflict) && a.retried {
		seqs, findErr := a.find(ctx)
		if findErr != nil || seqs != nil {
			return seqs, findErr
		}
		return nil, err
	} else if err != nil {
		return nil, err
	}
	ack, err := a.publish(ctx)
	if err != nil {
		return nil, err
	}
	if ack.Error == nil {
		return a.sequences(events.Sequence(ack.Sequence)), nil
	}
	switch ack.Error.Code {
	case errWrongSequence, errWrongConstant, errBatchDuplicate, errDuplicateUnknown:
		return a.resolve(ctx, ack.Error)
	case errIncompleteBatch, errTooManyBatches:
		return nil, transient(ack.Error)
	case errMessageTooLarge, errHeaderTooLarge:
		return nil, fmt.Errorf("%w: %w", events.ErrInvalid, ack.Error)
	}
	return nil, ack.Error.of("publish")
}

// sequences lists the sequences of the entries, given that of the last. They are contiguous.
func (a *appending) sequences(last events.Sequence) []events.Sequence {
	seqs := make([]events.Sequence, len(a.entries))
	for i := range seqs {
		seqs[i] = last - events.Sequence(len(seqs)-1-i)
	}
	return seqs
}

// ack is JetStream's answer to a publish; of a batch, to its last message.
type ack struct {
	Error    *apiError `json:"error"`
	Sequence uint64    `json:"seq"`
}

// publish sends the entries, one as a plain publish, several as an atomic batch, and waits for the answer.
func (a *appending) publish(ctx context.Context) (ack, error) {
	var out ack
	if len(a.msgs) > 1 {
		select {
		case a.log.batches <- struct{}{}:
			defer func() { <-a.log.batches }()
		case <-ctx.Done():
			return out, transient(ctx.Err())
		}
	}
	a.mark()
	a.log.measures.wrote(len(a.msgs))
	last := len(a.msgs) - 1
	m, err := a.log.conn.request(ctx, a.msgs[last], a.msgs[:last]...)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(m.Data, &out); err != nil {
		return out, transient(fmt.Errorf("answer to a publish: %w", err))
	}
	if out.Error == nil && out.Sequence < uint64(len(a.msgs)) {
		return out, transient(fmt.Errorf("answer to a publish holds sequence %d", out.Sequence))
	}
	return out, nil
}

// mark makes the messages a batch, where there are several.
func (a *appending) mark() {
	last := len(a.msgs) - 1
	if last == 0 { // it may have been part of a group before
		for _, h := range []string{headerBatchID, headerBatchSequence, headerBatchCommit} {
			delete(a.msgs[0].Header, h)
		}
		return
	}
	id := cmp.Or(a.batch, rand.Text())
	for i, m := range a.msgs {
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
		delete(m.Header, headerBatchCommit)
	}
	a.msgs[last].Header[headerBatchCommit] = []string{"1"}
	for _, m := range a.msgs[:last] {
		m.Reply = "" // it may have asked for an answer before
	}
}

package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// lastCalls lets all callers of Last that wait at the same time share one request. A caller never shares a
// request that was sent before it called: the answer might be older than an append that it knows of.
type lastCalls struct {
	mu      sync.Mutex
	running bool
	next    *lastCall
}

type lastCall struct {
	done chan struct{}
	seq  events.Sequence
	err  error
}

// Last implements events.Log. It asks the stream's leader.
func (l *log) Last(ctx context.Context) (events.Sequence, error) {
	if err := l.closed("last"); err != nil {
		return 0, err
	}
	l.last.mu.Lock()
	if l.last.next == nil {
		l.last.next = &lastCall{done: make(chan struct{})}
	}
	call := l.last.next
	if !l.last.running {
		l.last.running = true
		go l.answerLast()
	}
	l.last.mu.Unlock()
	select {
	case <-call.done:
		return call.seq, call.err
	case <-ctx.Done():
		return 0, fmt.Errorf("last: %w: %w", events.ErrUnavailable, ctx.Err())
	case <-l.closing:
		return 0, l.closed("last")
	}
}

// answerLast answers calls until none is waiting. Each request is bounded by Options.Patience.
func (l *log) answerLast() {
	for {
		l.last.mu.Lock()
		call := l.last.next
		l.last.next = nil
		if call == nil {
			l.last.running = false
			l.last.mu.Unlock()
			return
		}
		l.last.mu.Unlock()
		call.seq, call.err = l.askLast(context.Background())
		close(call.done)
	}
}

func (l *log) askLast(ctx context.Context) (seq events.Sequence, err error) {
	what := "last sequence of stream " + l.stream
	err = l.conn.retry(ctx, func(ctx context.Context, _ int) error {
		if err := l.closed(what); err != nil {
			return err
		}
		m, err := l.conn.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.INFO." + l.stream})
		if err != nil {
			return err
		}
		var answer struct {
			Error *apiError `json:"error"`
			State *struct {
				Last events.Sequence `json:"last_seq"`
			} `json:"state"`
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if answer.Error != nil && answer.Error.Code == errNoStream {
			return fmt.Errorf("%s: %w", what, errStreamNotFound)
		}
		if answer.Error != nil || answer.State == nil {
			return answer.Error.of(what)
		}
		seq = answer.State.Last
		return nil
	})
	return seq, err
}

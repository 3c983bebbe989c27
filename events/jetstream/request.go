package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// requests are the questions that wait for an answer. All answers come in on one subscription. Other than
// nats.go's own requests, they end as soon as the connection was replaced: the answer went to the old one.
type requests struct {
	prefix  string // of the answers' subjects; a number follows
	mu      sync.Mutex
	next    uint64
	waiting map[string]chan *nats.Msg
}

var errReplaced = errors.New("the connection was replaced before the answer came")

func (r *requests) start(nc *nats.Conn) error {
	r.prefix, r.waiting = nc.NewInbox()+".", map[string]chan *nats.Msg{}
	sub, err := nc.Subscribe(r.prefix+"*", r.answered)
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1) // as many as there are questions
}

func (r *requests) answered(m *nats.Msg) {
	id := strings.TrimPrefix(m.Subject, r.prefix)
	r.mu.Lock()
	ch := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if ch != nil {
		ch <- m // has room for the one answer
	}
}

func (r *requests) add() (id string, answer chan *nats.Msg) {
	answer = make(chan *nats.Msg, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	id = strconv.FormatUint(r.next, 10)
	r.waiting[id] = answer
	return id, answer
}

func (r *requests) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// request sends one message and waits for the answer. Its errors are transient unless the connection was
// closed for good or the message cannot be sent at all.
func (c *Conn) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	_, reconnected := c.connection()
	id, answer := c.requests.add()
	m.Reply = c.requests.prefix + id
	if err := c.nc.PublishMsg(m); err != nil {
		c.requests.remove(id)
		return nil, classify(err)
	}
	timer := time.NewTimer(attemptTimeout)
	defer timer.Stop()
	var err error
	select {
	case a := <-answer:
		if len(a.Data) == 0 && a.Header.Get("Status") == "503" {
			return nil, transient(nats.ErrNoResponders)
		}
		return a, nil
	case <-reconnected:
		err = transient(errReplaced)
	case <-timer.C:
		err = transient(fmt.Errorf("no answer on %s within %v", m.Subject, attemptTimeout))
	case <-ctx.Done():
		err = transient(ctx.Err())
	case <-c.done:
		err = fmt.Errorf("connection to the log: %w", events.ErrClosed)
	}
	c.requests.remove(id)
	return nil, err
}

func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", events.ErrClosed, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w: the server's max_payload must be at least %d bytes", events.ErrInvalid, err, maxPayload)
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return fmt.Errorf("%w: %w", events.ErrInvalid, err)
	}
	return transient(err)
}

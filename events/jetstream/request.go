package jetstream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	waiting map[string]*question
}

// question is a message that asks for an answer, last of those that belong together.
type question struct {
	msgs   []*nats.Msg
	answer chan answer // has room for one
}

type answer struct {
	msg *nats.Msg
	err error
}

var errReplaced = errors.New("the connection was replaced before the answer came")

func (r *requests) start(nc *nats.Conn) error {
	r.prefix, r.waiting = nc.NewInbox()+".", map[string]*question{}
	sub, err := nc.Subscribe(r.prefix+"*", r.answered)
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1) // as many as there are questions
}

func (r *requests) answered(m *nats.Msg) {
	id := strings.TrimPrefix(m.Subject, r.prefix)
	r.mu.Lock()
	q := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if q != nil {
		q.answer <- answer{msg: m}
	}
}

// refused finds the subject in the server's words about a message that was not permitted.
var refused = regexp.MustCompile(`Publish to "(\S+)"`)

// refuse ends the questions that the server was not willing to take; it answers only with an error of the
// connection.
func (r *requests) refuse(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	found := refused.FindStringSubmatch(err.Error())
	if found == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, q := range r.waiting {
		if slices.ContainsFunc(q.msgs, func(m *nats.Msg) bool { return m.Subject == found[1] }) {
			delete(r.waiting, id)
			q.answer <- answer{err: fmt.Errorf("%w: %w", ErrForbidden, err)}
		}
	}
}

func (r *requests) add(msgs []*nats.Msg) (id string, ch chan answer) {
	ch = make(chan answer, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	id = strconv.FormatUint(r.next, 10)
	r.waiting[id] = &question{msgs: msgs, answer: ch}
	return id, ch
}

func (r *requests) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// request sends one message, after those that belong before it, and waits for the answer. Its errors are
// transient unless the connection was closed for good, or a message cannot be sent at all or is forbidden.
func (c *Conn) request(ctx context.Context, m *nats.Msg, before ...*nats.Msg) (*nats.Msg, error) {
	_, reconnected := c.connection()
	all := append(slices.Clip(before), m)
	id, answered := c.requests.add(all)
	m.Reply = c.requests.prefix + id
	for _, m := range all {
		if err := c.nc.PublishMsg(m); err != nil {
			c.requests.remove(id)
			return nil, classify(err)
		}
	}
	timer := time.NewTimer(attemptTimeout)
	defer timer.Stop()
	var err error
	select {
	case a := <-answered:
		if a.err == nil && len(a.msg.Data) == 0 && a.msg.Header.Get("Status") == "503" {
			return nil, transient(nats.ErrNoResponders)
		}
		return a.msg, a.err
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

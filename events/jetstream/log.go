package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// log is one stream of a connection.
type log struct {
	conn     *Conn
	stream   string
	root     string // first token of the stream's subjects
	gapless  bool   // every sequence must be there: not so in the volatile stream
	replicas int

	closing chan struct{} // closed by Close
	once    sync.Once
	batches chan struct{} // places for open atomic batches: the server has 50 a stream
	last    lastCalls
	group   group
	staging *staging // nil: on disk

	measures measures

	mu            sync.Mutex
	subscriptions map[*subscription]bool
}

var _ events.Log = (*log)(nil)

func (c *Conn) open(stream, root string, replicas int, gapless bool) *log {
	l := &log{conn: c, stream: stream, root: root, gapless: gapless, replicas: replicas,
		closing: make(chan struct{}), batches: make(chan struct{}, 12), subscriptions: map[*subscription]bool{}, measures: c.measuresOf(root)}
	if gapless && c.opts.Server != nil {
		l.staging = c.opts.Server.staging(stream)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs = append(c.logs, l)
	return l
}

// Close implements events.Log. The connection stays open.
func (l *log) Close() error {
	l.once.Do(func() {
		close(l.closing)
		l.mu.Lock()
		open := slices.Collect(maps.Keys(l.subscriptions))
		l.mu.Unlock()
		for _, s := range open {
			s.Close()
		}
	})
	return nil
}

func (l *log) closed(call string) error {
	select {
	case <-l.closing:
		return fmt.Errorf("%s: %w", call, events.ErrClosed)
	default:
		return nil
	}
}

// Get implements events.Log.
func (l *log) Get(ctx context.Context, seq events.Sequence) (events.Event, error) {
	if seq == 0 {
		return events.Event{}, fmt.Errorf("event 0: %w", events.ErrNotFound)
	}
	e, err := l.read(ctx, readRequest{Seq: uint64(seq)})
	if err != nil {
		return e, fmt.Errorf("event %d: %w", seq, err)
	}
	return e, nil
}

// LastOn implements events.Log.
func (l *log) LastOn(ctx context.Context, pattern string) (events.Event, error) {
	e, err := l.read(ctx, readRequest{LastFor: l.onWire(pattern)})
	if err != nil {
		return e, fmt.Errorf("last event on %s: %w", pattern, err)
	}
	return e, nil
}

// nextOn returns the first event on a pattern from a sequence on.
func (l *log) nextOn(ctx context.Context, pattern string, from events.Sequence) (events.Event, error) {
	return l.read(ctx, readRequest{NextFor: l.onWire(pattern), Seq: uint64(from)})
}

// readRequest asks for one message: by sequence, the last on a subject, or the next on one from a sequence.
type readRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
}

// read fetches one event. With one replica the direct way is as fresh as any; with more, any replica answers
// it, perhaps a late one, so the leader is asked.
func (l *log) read(ctx context.Context, r readRequest) (e events.Event, err error) {
	if err := l.closed("read"); err != nil {
		return e, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return e, err
	}
	err = l.conn.retry(ctx, func(ctx context.Context, _ int) error {
		if l.replicas > 1 {
			e, err = l.readFromLeader(ctx, body)
		} else {
			e, err = l.readDirect(ctx, body)
		}
		return err
	})
	return e, err
}

func (l *log) readDirect(ctx context.Context, body []byte) (events.Event, error) {
	m, err := l.conn.request(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + l.stream, Data: body})
	if err != nil {
		return events.Event{}, err
	}
	if status := m.Header.Get("Status"); status == "404" {
		return events.Event{}, events.ErrNotFound
	} else if status != "" {
		return events.Event{}, transient(fmt.Errorf("reading stream %s: %s %s", l.stream, status, m.Header.Get("Description")))
	}
	seq, err := events.ParseSequence(m.Header.Get(headerSequence))
	if err != nil {
		return events.Event{}, fmt.Errorf("reading stream %s: %s: %w", l.stream, headerSequence, err)
	}
	stored, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerTimestamp))
	if err != nil {
		return events.Event{}, fmt.Errorf("reading stream %s: %s: %w", l.stream, headerTimestamp, err)
	}
	return l.decode(m.Header.Get(headerSubject), m.Header, m.Data, seq, stored), nil
}

func (l *log) readFromLeader(ctx context.Context, body []byte) (events.Event, error) {
	m, err := l.conn.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + l.stream, Data: body})
	if err != nil {
		return events.Event{}, err
	}
	var answer struct {
		Error   *apiError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return events.Event{}, fmt.Errorf("reading stream %s: answer: %w", l.stream, err)
	}
	if answer.Error != nil && answer.Error.Code == errNoMessage {
		return events.Event{}, events.ErrNotFound
	}
	if answer.Error != nil || answer.Message == nil {
		return events.Event{}, answer.Error.of("reading stream " + l.stream)
	}
	header, err := nats.DecodeHeadersMsg(answer.Message.Header)
	if err != nil {
		return events.Event{}, fmt.Errorf("reading stream %s: header: %w", l.stream, err)
	}
	return l.decode(answer.Message.Subject, header, answer.Message.Data, events.Sequence(answer.Message.Sequence), answer.Message.Time), nil
}

// Error codes of JetStream's API that mean something to us.
const (
	errNoMessage        = 10037
	errNoStream         = 10059
	errWrongSequence    = 10071
	errWrongConstant    = 10164 // another append on the same subject is under way, or a guard came second
	errIncompleteBatch  = 10176
	errBatchDuplicate   = 10201
	errTooManyBatches   = 10210
	errMessageTooLarge  = 10054
	errHeaderTooLarge   = 10097
	errDuplicateUnknown = 10158 // the message ID is taken by an append that is still under way
)

// apiError is the error part of an answer of JetStream's API.
type apiError struct {
	Code        int    `json:"err_code"`
	Status      int    `json:"code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s (JetStream error %d)", e.Description, e.Code)
}

// of says what failed. Server-side trouble is transient, a refused request is not.
func (e *apiError) of(what string) error {
	switch {
	case e == nil:
		return transient(errors.New(what + ": empty answer"))
	case e.Status == 503 || e.Status == 500 || e.Status == 429:
		return transient(fmt.Errorf("%s: %w", what, e))
	}
	return fmt.Errorf("%s: %w", what, e)
}

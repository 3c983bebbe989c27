package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/orlog-io/orlog/events"
)

// Report is one observation: the whole status of an object as its node sees it.
type Report struct {
	// ID is the event's; Put gives one where it is "".
	ID  string     `json:"id"`
	Key events.Key `json:"key"`
	UID string     `json:"uid"`
	// Type is the event's type: io.orlog.pod.started.
	Type string `json:"type"`
	// Kept: a fact of its own that a newer report does not replace.
	Kept   bool            `json:"kept,omitempty"`
	Status json.RawMessage `json:"status"`
	// Was is the status before, for the event's changes; nil where none is known.
	Was json.RawMessage `json:"was,omitempty"`
	// Cause and Correlation name the desired event that led here; 0: the report starts a chain.
	Cause       events.Sequence `json:"cause,omitempty"`
	Correlation events.Sequence `json:"correlation,omitempty"`
	// TraceParent is the cause's trace, "" where it belongs to none.
	TraceParent string    `json:"traceParent,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Time        time.Time `json:"time"`
	// Hold is how long the report may wait for a newer one to take its place.
	Hold time.Duration `json:"-"`

	due time.Time
}

// Options configure an Outbox. All are required but Log and Merge.
type Options struct {
	Dir string
	Log events.Log
	// State returns what is known about an object: at least its newest observed event.
	State func(events.Key) (events.State, error)
	// Merge returns status with those parts of current that belong to other writers; nil: nothing is merged.
	Merge func(key events.Key, status, current json.RawMessage) (json.RawMessage, error)
	// Node, Source and Actor go into the events.
	Node, Source, Actor string
	Logger              *slog.Logger
}

// Outbox is a durable queue of reports. Its methods may be called from many goroutines.
type Outbox struct {
	o Options

	mu      sync.Mutex
	journal *journal
	queues  map[events.Key]*queue
	work    chan events.Key // objects whose queue went from idle to waiting
	stats   Stats
}

// queue holds the reports about one object, oldest first.
type queue struct {
	reports []Report
	active  bool            // a sender has it, or will
	sending bool            // the first report is on its way
	cursor  events.Sequence // our newest append
	sent    json.RawMessage // its status
}

// Stats counts what became of the reports.
type Stats struct {
	Appended, Superseded, Conflicts, Retries, Dropped uint64
	Pending                                           int
	// Oldest is when the oldest report that waits was made; zero where none waits.
	Oldest time.Time
}

// Open reads the journal in o.Dir, making the folder where it is missing.
func Open(o Options) (*Outbox, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	j, pending, err := openJournal(o.Dir)
	if err != nil {
		return nil, err
	}
	b := &Outbox{o: o, journal: j, queues: map[events.Key]*queue{}, work: make(chan events.Key, 1<<16)}
	for _, r := range pending {
		b.queue(r.Key).reports = append(b.queue(r.Key).reports, r)
	}
	return b, nil
}

// Close closes the journal. Run must have returned.
func (b *Outbox) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.journal.close()
}

func (b *Outbox) queue(key events.Key) *queue {
	q := b.queues[key]
	if q == nil {
		q = &queue{}
		b.queues[key] = q
	}
	return q
}

// Put makes a report durable and sends it when its turn comes. It replaces waiting reports about the same object
// that are not Kept.
func (b *Outbox) Put(r Report) error {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	r.due = time.Now().Add(r.Hold)
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(r.Key)
	first := 0
	if q.sending {
		first = 1
	}
	kept := q.reports[:min(first, len(q.reports))]
	var gone []string
	for _, old := range q.reports[len(kept):] {
		if old.Kept || old.UID != r.UID {
			kept = append(kept, old)
			continue
		}
		gone = append(gone, old.ID)
		if len(kept) == 0 || kept[len(kept)-1].UID != r.UID {
			r.Was = old.Was // its changes are part of this one's
		}
	}
	if err := b.journal.write(r, gone); err != nil {
		return err
	}
	b.stats.Superseded += uint64(len(gone))
	q.reports = append(kept, r)
	b.wake(r.Key, q)
	return nil
}

// wake makes sure that somebody looks at the queue. Callers hold the lock.
func (b *Outbox) wake(key events.Key, q *queue) {
	if q.active {
		return
	}
	q.active = true
	b.work <- key
}

// Newest returns the status of the newest report about an object that was put since Open or waits from before.
func (b *Outbox) Newest(key events.Key, uid string) (json.RawMessage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[key]
	if q == nil {
		return nil, false
	}
	for i := len(q.reports) - 1; i >= 0; i-- {
		if q.reports[i].UID == uid {
			return q.reports[i].Status, true
		}
	}
	return nil, false
}

// Stats returns the counts so far.
func (b *Outbox) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	for _, q := range b.queues {
		s.Pending += len(q.reports)
		if len(q.reports) > 0 && (s.Oldest.IsZero() || q.reports[0].Time.Before(s.Oldest)) {
			s.Oldest = q.reports[0].Time
		}
	}
	return s
}

// senders is how many objects are reported on at once: the log batches what waits together.
const senders = 64

// Run sends until ctx ends. Errors are those of the journal.
func (b *Outbox) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.mu.Lock()
	for key, q := range b.queues {
		if len(q.reports) > 0 && !q.active {
			b.wake(key, q)
		}
	}
	b.mu.Unlock()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case key := <-b.work:
					if err := b.drain(ctx, key); err != nil && ctx.Err() == nil {
						cancel(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// heartbeat is how often the server speaks up on an idle feed. A feed that was silent for three of them is
// dead.
const heartbeat = 2 * time.Second

// feed is one ephemeral push consumer. Messages wait in queue until taken; the server sends no more than its
// flow-control window ahead of what was taken.
type feed struct {
	log         *log
	consumer    string
	sub         *nats.Subscription
	epoch       uint64
	reconnected <-chan struct{}
	arrived     chan struct{} // holds a token when something may have arrived

	mu    sync.Mutex
	queue []*nats.Msg
	heard time.Time

	// taken is the consumer's own count of the last message taken: it has no holes unless one was lost.
	taken uint64
}

// delivery is a message of the stream, or the news that one was lost on the way.
type delivery struct {
	msg      *nats.Msg
	sequence events.Sequence
	stored   time.Time
	lost     bool
}

type consumerConfig struct {
	Name              string        `json:"name"`
	DeliverSubject    string        `json:"deliver_subject"`
	DeliverPolicy     string        `json:"deliver_policy"`
	OptStartSeq       uint64        `json:"opt_start_seq"`
	AckPolicy         string        `json:"ack_policy"`
	MaxDeliver        int           `json:"max_deliver"`
	FilterSubjects    []string      `json:"filter_subjects,omitempty"`
	ReplayPolicy      string        `json:"replay_policy"`
	FlowControl       bool          `json:"flow_control"`
	Heartbeat         time.Duration `json:"idle_heartbeat"`
	InactiveThreshold time.Duration `json:"inactive_threshold"`
	Replicas          int           `json:"num_replicas"`
	MemoryStorage     bool          `json:"mem_storage"`
}

// startFeed creates a consumer at a sequence.
func (l *log) startFeed(ctx context.Context, from events.Sequence, filters []string) (*feed, error) {
	f := &feed{log: l, consumer: "orlog-" + rand.Text(), arrived: make(chan struct{}, 1), heard: time.Now()}
	f.epoch, f.reconnected = l.conn.connection()
	var err error
	f.sub, err = l.conn.nc.Subscribe(l.conn.nc.NewInbox(), f.receive)
	if err != nil {
		return nil, classify(err)
	}
	if err := f.sub.SetPendingLimits(-1, -1); err != nil { // flow control is the limit
		return nil, classify(err)
	}
	config := consumerConfig{Name: f.consumer, DeliverSubject: f.sub.Subject, DeliverPolicy: "by_start_sequence", OptStartSeq: uint64(from),
		AckPolicy: "none", MaxDeliver: 1, ReplayPolicy: "instant", FlowControl: true, Heartbeat: heartbeat,
		InactiveThreshold: 5 * time.Second, Replicas: 1, MemoryStorage: true}
	for _, p := range filters {
		config.FilterSubjects = append(config.FilterSubjects, l.onWire(p))
	}
	if err := f.create(ctx, config); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *feed) create(ctx context.Context, config consumerConfig) error {
	body, err := json.Marshal(map[string]any{"stream_name": f.log.stream, "config": config, "action": "create"})
	if err != nil {
		return err
	}
	m, err := f.log.conn.request(ctx, &nats.Msg{Subject: "$JS.API.CONSUMER.CREATE." + f.log.stream + "." + f.consumer, Data: body})
	if err != nil {
		return err
	}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return transient(fmt.Errorf("creating a consumer: answer: %w", err))
	}
	if answer.Error != nil {
		return answer.Error.of("creating a consumer")
	}
	return nil
}

// receive runs on the connection's goroutine for this subscription.
func (f *feed) receive(m *nats.Msg) {
	f.mu.Lock()
	f.queue = append(f.queue, m)
	f.heard = time.Now()
	f.mu.Unlock()
	select {
	case f.arrived <- struct{}{}:
	default:
	}
}

// take returns at most n messages in order, answering the server's flow control on the way.
func (f *feed) take(n int) []delivery {
	f.mu.Lock()
	queue := f.queue[:min(n, len(f.queue))]
	f.queue = f.queue[len(queue):]
	if len(f.queue) == 0 {
		f.queue = nil
	}
	f.mu.Unlock()
	out := make([]delivery, 0, len(queue))
	for i, m := range queue {
		queue[i] = nil // the queue's array must not keep it alive
		if len(m.Data) == 0 && m.Header.Get("Status") != "" {
			if !f.control(m) {
				return append(out, delivery{lost: true})
			}
			continue
		}
		d, count, err := parseDelivery(m)
		if err != nil || count != f.taken+1 {
			return append(out, delivery{lost: true})
		}
		f.taken = count
		out = append(out, d)
	}
	return out
}

// control handles flow control and heartbeats; false where the feed is of no more use.
func (f *feed) control(m *nats.Msg) bool {
	if m.Header.Get("Status") != "100" {
		return false // the consumer was deleted, or the like
	}
	if m.Reply != "" {
		return f.log.conn.nc.Publish(m.Reply, nil) == nil
	}
	if stalled := m.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		if f.log.conn.nc.Publish(stalled, nil) != nil {
			return false
		}
	}
	last, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
	return err != nil || last <= f.taken
}

// parseDelivery reads the acknowledgement subject, which no one acknowledges here but which says what the
// message is: $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<sequence>.<count>.<time>.<pending>...
func parseDelivery(m *nats.Msg) (delivery, uint64, error) {
	t := strings.Split(m.Reply, ".")
	if len(t) < 9 || t[0] != "$JS" || t[1] != "ACK" {
		return delivery{}, 0, fmt.Errorf("message without place: reply %q", m.Reply)
	}
	at := 5
	if len(t) > 9 {
		at = 7
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(t[at+i], 10, 64); err != nil {
			return delivery{}, 0, fmt.Errorf("message without place: reply %q: %w", m.Reply, err)
		}
	}
	return delivery{msg: m, sequence: events.Sequence(n[0]), stored: time.Unix(0, int64(n[2])).UTC()}, n[1], nil
}

// patience is how long the feed may stay silent from now on.
func (f *feed) patience() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(time.Until(f.heard.Add(3*heartbeat)), time.Millisecond)
}

// outdated: the connection was replaced or the feed fell silent, and all that had arrived was taken.
func (f *feed) outdated() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	epoch, _ := f.log.conn.connection()
	return len(f.queue) == 0 && (epoch != f.epoch || time.Since(f.heard) > 3*heartbeat)
}

// stop ends delivery. The server is told, but would find out by itself.
func (f *feed) stop() {
	_ = f.sub.Unsubscribe() // fails only where the connection is closed, which ends delivery as well
	_ = f.log.conn.nc.Publish("$JS.API.CONSUMER.DELETE."+f.log.stream+"."+f.consumer, nil)
}

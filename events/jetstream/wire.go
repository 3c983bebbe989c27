package jetstream

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// Headers that JetStream gives a meaning.
const (
	headerMsgID           = "Nats-Msg-Id"
	headerExpected        = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedSubject = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerBatchID         = "Nats-Batch-Id"
	headerBatchSequence   = "Nats-Batch-Sequence"
	headerBatchCommit     = "Nats-Batch-Commit"
	headerSequence        = "Nats-Sequence"
	headerTimestamp       = "Nats-Time-Stamp"
	headerSubject         = "Nats-Subject"
)

// message makes the NATS message of an entry, guard included.
func (l *log) message(e events.Entry) (*nats.Msg, error) {
	w, err := events.Encode(e.Event)
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: l.onWire(w.Subject), Header: make(nats.Header, len(w.Header)+6), Data: w.Data}
	for name, value := range w.Header {
		m.Header[name] = []string{value}
	}
	m.Header[headerMsgID] = []string{e.Event.ID}
	if e.Expect != nil {
		m.Header[headerExpected] = []string{e.Expect.Last.String()}
		m.Header[headerExpectedSubject] = []string{l.onWire(e.Expect.On)}
	}
	return m, nil
}

// decode reads a message of the stream. What is no event becomes one that says so: see events.Read.
func (l *log) decode(subject string, header nats.Header, body []byte, seq events.Sequence, stored time.Time) events.Event {
	w := events.Wire{Subject: l.offWire(subject), Header: make(map[string]string, len(header)), Data: body}
	for name, values := range header {
		if len(values) > 0 {
			w.Header[name] = values[0]
		}
	}
	return events.Read(w, seq, stored)
}

// onWire is a subject or pattern as this stream knows it: the root token is the stream's own.
func (l *log) onWire(subject string) string {
	if rest, ok := strings.CutPrefix(subject, events.SubjectRoot+"."); ok {
		return l.root + "." + rest
	}
	return subject
}

// offWire undoes onWire.
func (l *log) offWire(subject string) string {
	if rest, ok := strings.CutPrefix(subject, l.root+"."); ok {
		return events.SubjectRoot + "." + rest
	}
	return subject
}

package projections

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/orlog-io/orlog/events"
)

// row is an object's state as stored, with what its index entries are made of.
type row struct {
	events.State
	// owners holds metadata.ownerReferences[].uid.
	owners []string
	// bare: stored without its object, because the version at Revision holds it (or nobody does).
	bare bool
}

const (
	flagDeleted = 1 << iota
	flagObject
)

// encodeRow writes a state, without its key (which is in the row's key). A bare row leaves the object out.
func encodeRow(b []byte, r row, bare bool) []byte {
	var flags byte
	if r.Deleted {
		flags |= flagDeleted
	}
	if !bare {
		flags |= flagObject
	}
	b = append(b, flags)
	for _, n := range []events.Sequence{r.Revision, r.Created, r.Desired, r.Observed} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = appendString(appendString(b, r.UID), r.Node)
	b = binary.AppendUvarint(b, uint64(len(r.owners)))
	for _, o := range r.owners {
		b = appendString(b, o)
	}
	if flags&flagObject != 0 {
		b = append(b, r.Object...)
	}
	return b
}

// decodeRow reads what encodeRow wrote. The result shares no memory with b.
func decodeRow(k events.Key, b []byte) (row, error) {
	d := decoder{rest: b}
	r := row{State: events.State{Key: k}}
	flags := d.byte()
	r.Deleted = flags&flagDeleted != 0
	for _, n := range []*events.Sequence{&r.Revision, &r.Created, &r.Desired, &r.Observed} {
		*n = events.Sequence(d.uvarint())
	}
	r.UID, r.Node = d.string(), d.string()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		r.owners = append(r.owners, d.string())
	}
	r.bare = flags&flagObject == 0
	if !r.bare && len(d.rest) > 0 {
		r.Object = bytes.Clone(d.rest)
	}
	return r, d.err
}

// newestOf reads only the newest sequence of a row: enough to tell whether it is already what a past view wants.
func newestOf(b []byte) (events.Sequence, error) {
	d := decoder{rest: b}
	d.byte()
	d.uvarint()
	d.uvarint()
	desired, observed := d.uvarint(), d.uvarint()
	return events.Sequence(max(desired, observed)), d.err
}

// eventRecord is an event as stored: without its object, unless the event changed nothing and no version
// holds it.
type eventRecord struct {
	events.Event
	// asOf is the newest Stored of this event and all before it: a clock that never goes back.
	asOf time.Time
	// changed is what Fold said.
	changed bool
}

const (
	flagObserved = 1 << iota
	flagChanged
)

func encodeEvent(b []byte, r eventRecord) []byte {
	var flags byte
	if r.Subject.Class == events.Observed {
		flags |= flagObserved
	}
	if r.changed {
		flags |= flagChanged
	}
	b = appendTime(appendKey(append(b, flags), r.Subject.Key), r.asOf)
	for _, s := range []string{r.Subject.Node, r.ID, r.Type, r.Source, r.Actor, r.OnBehalfOf, r.Reason, r.UID, r.TraceParent} {
		b = appendString(b, s)
	}
	b = appendTime(appendTime(b, r.Time), r.Stored)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r.Cause)), uint64(r.Correlation))
	b = appendString(b, string(r.Changes))
	if !r.changed {
		b = append(b, r.Object...)
	}
	return b
}

func decodeEvent(seq events.Sequence, b []byte) (eventRecord, error) {
	d := decoder{rest: b}
	r := eventRecord{Event: events.Event{Sequence: seq}}
	flags := d.byte()
	r.Subject.Class = events.Desired
	if flags&flagObserved != 0 {
		r.Subject.Class = events.Observed
	}
	r.changed = flags&flagChanged != 0
	if d.err == nil {
		r.Subject.Key, d.rest, d.err = cutKey(d.rest)
	}
	r.asOf = d.time()
	for _, s := range []*string{&r.Subject.Node, &r.ID, &r.Type, &r.Source, &r.Actor, &r.OnBehalfOf, &r.Reason, &r.UID, &r.TraceParent} {
		*s = d.string()
	}
	r.Time, r.Stored = d.time(), d.time()
	r.Cause, r.Correlation = events.Sequence(d.uvarint()), events.Sequence(d.uvarint())
	if c := d.string(); c != "" {
		r.Changes = json.RawMessage(c)
	}
	if len(d.rest) > 0 {
		r.Object = bytes.Clone(d.rest)
	}
	return r, d.err
}

// asOfEvent reads only the clock of an event's row.
func asOfEvent(b []byte) (time.Time, error) {
	_, rest, err := cutKey(eventKey(b))
	d := decoder{rest: rest, err: err}
	return d.time(), d.err
}

// eventKey is the part of an event's row that begins with its object's key.
func eventKey(b []byte) []byte { return b[min(1, len(b)):] }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

var errShortRow = errors.New("row is cut short")

// decoder reads a row's fields in turn; the first error stays and all later fields are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errShortRow
	}
	d.rest = nil
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) time() time.Time {
	sec, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail()
		return time.Time{}
	}
	d.rest = d.rest[size:]
	return time.Unix(sec, int64(d.uvarint())).UTC()
}

package events

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CloudEvents attributes in NATS binary mode. Orlog's own are CloudEvents extensions, so their names are
// lower-case letters only.
const (
	headerSpecVersion = "ce-specversion"
	headerID          = "ce-id"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerSubject     = "ce-subject"
	headerTime        = "ce-time"
	headerDataSchema  = "ce-dataschema"
	headerContentType = "content-type"
	headerActor       = "ce-actor"
	headerOnBehalfOf  = "ce-onbehalfof"
	headerCause       = "ce-cause"
	headerCorrelation = "ce-correlation"
	headerReason      = "ce-reason"
	headerUID         = "ce-uid"
	headerTraceParent = "traceparent"

	specVersion = "1.0"
	sourceRoot  = "/orlog/"
)

// DataSchema is the ce-dataschema of every event: the JSON Schema in schemas/.
const DataSchema = "https://orlog.io/schemas/event/v1.json"

// data is the payload of an event on the wire.
type data struct {
	Object  json.RawMessage `json:"object"`
	Changes json.RawMessage `json:"changes,omitempty"`
}

// parseData reads a payload. What it returns shares the payload's memory.
func parseData(b []byte) (d data, err error) {
	cut, ok := cutObject(b)
	if !ok || !validJSON(b) {
		return d, json.Unmarshal(b, &d)
	}
	for _, m := range cut {
		switch string(m.name) {
		case "object":
			d.Object = m.value
		case "changes":
			d.Changes = m.value
		default:
			var all data // not d, which decoding would overwrite the payload by
			return all, json.Unmarshal(b, &all)
		}
	}
	return d, nil
}

// Wire is an event as a NATS message: subject, headers (one value each) and payload.
type Wire struct {
	Subject string
	Header  map[string]string
	Data    []byte
}

// attributes are the event's CloudEvents attributes as their header names and plain values; absent ones left
// out.
func (e Event) attributes() map[string]string {
	a := map[string]string{
		headerSpecVersion: specVersion,
		headerID:          e.ID,
		headerType:        e.Type,
		headerSource:      sourceRoot + e.Source,
		headerSubject:     e.Subject.Key.String(),
		headerTime:        e.Time.UTC().Format(time.RFC3339Nano),
		headerDataSchema:  DataSchema,
		headerActor:       e.Actor,
		headerUID:         e.UID,
	}
	for name, value := range map[string]string{headerOnBehalfOf: e.OnBehalfOf, headerReason: e.Reason, headerTraceParent: e.TraceParent} {
		if value != "" {
			a[name] = value
		}
	}
	for name, value := range map[string]Sequence{headerCause: e.Cause, headerCorrelation: e.Correlation} {
		if value != 0 {
			a[name] = value.String()
		}
	}
	return a
}

// body is the payload: what json.Marshal makes of data, which is to go over all of it byte by byte where that
// changes nothing.
func (e Event) body() (json.RawMessage, error) {
	if len(e.Object) > 0 && asMarshalled(e.Object) && asMarshalled(e.Changes) {
		body := make([]byte, 0, len(e.Object)+len(e.Changes)+len(`{"object":,"changes":}`))
		body = append(append(body, `{"object":`...), e.Object...)
		if len(e.Changes) > 0 {
			body = append(append(body, `,"changes":`...), e.Changes...)
		}
		return append(body, '}'), nil
	}
	body, err := json.Marshal(data{Object: e.Object, Changes: e.Changes})
	if err != nil {
		return nil, invalidf("event %s about %s: %v", e.Type, e.Subject.Key, err)
	}
	return body, nil
}

// Encode makes the event's message. It fails (ErrInvalid) where the event is too large for a message;
// otherwise the event is not validated here: see [Event.Validate].
func Encode(e Event) (Wire, error) {
	body, err := e.body()
	if err != nil {
		return Wire{}, err
	}
	if len(body) > MaxEventBytes {
		return Wire{}, invalidf("event %s about %s: object and changes take %d bytes, more than %d", e.Type, e.Subject.Key, len(body), MaxEventBytes)
	}
	h, size := e.attributes(), 0
	for name, value := range h {
		h[name] = escapeHeader(value)
		size += len(name) + len(h[name])
	}
	h[headerContentType] = "application/json"
	if size > MaxHeaderBytes {
		return Wire{}, invalidf("event %s about %s: attributes take %d bytes, more than %d: shorten the reason (%d bytes)", e.Type, e.Subject.Key, size, MaxHeaderBytes, len(h[headerReason]))
	}
	return Wire{Subject: e.Subject.String(), Header: h, Data: body}, nil
}

// Decode reads a message of the log. seq and stored are the log's own.
func Decode(w Wire, seq Sequence, stored time.Time) (Event, error) {
	fail := func(what string, err error) (Event, error) {
		return Event{}, fmt.Errorf("event %d on %s: %s: %w", seq, w.Subject, what, err)
	}
	subject, err := ParseSubject(w.Subject)
	if err != nil {
		return fail("subject", err)
	}
	at, err := time.Parse(time.RFC3339Nano, w.Header[headerTime])
	if err != nil {
		return fail(headerTime, err)
	}
	d, err := parseData(w.Data)
	if err != nil {
		return fail("data", err)
	}
	e := Event{Sequence: seq, Stored: stored, Subject: subject, Time: at, Object: d.Object, Changes: d.Changes}
	for _, f := range []struct {
		name string
		to   *string
	}{{headerID, &e.ID}, {headerType, &e.Type}, {headerSource, &e.Source}, {headerActor, &e.Actor}, {headerOnBehalfOf, &e.OnBehalfOf},
		{headerReason, &e.Reason}, {headerUID, &e.UID}, {headerTraceParent, &e.TraceParent}} {
		if *f.to, err = unescapeHeader(w.Header[f.name]); err != nil {
			return fail(f.name, err)
		}
	}
	e.Source = strings.TrimPrefix(e.Source, sourceRoot)
	for _, f := range []struct {
		name string
		to   *Sequence
	}{{headerCause, &e.Cause}, {headerCorrelation, &e.Correlation}} {
		if v := w.Header[f.name]; v != "" {
			if *f.to, err = ParseSequence(v); err != nil {
				return fail(f.name, err)
			}
		}
	}
	return e, nil
}

// Structured is the event as a CloudEvents 1.0 JSON object (structured mode), for readers that are not on
// NATS: orlog tail -o json, webhooks. sequence is an extension.
func Structured(e Event) (json.RawMessage, error) {
	body, err := e.body()
	if err != nil {
		return nil, err
	}
	out := map[string]any{"sequence": e.Sequence.String(), "datacontenttype": "application/json", "data": body, "natssubject": e.Subject.String()}
	for name, value := range e.attributes() { // order does not matter: all names have the prefix
		out[strings.TrimPrefix(name, "ce-")] = value
	}
	return json.Marshal(out)
}

// ParseStructured reads what [Structured] wrote. Stored is not part of it.
func ParseStructured(b []byte) (Event, error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(b, &in); err != nil {
		return Event{}, invalidf("structured event: %v", err)
	}
	w := Wire{Header: map[string]string{}, Data: in["data"]}
	delete(in, "data")
	attributes := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		var value string
		if err := json.Unmarshal(in[name], &value); err != nil {
			return Event{}, invalidf("structured event: %s: %v", name, err)
		}
		attributes[name] = value
		w.Header["ce-"+name] = escapeHeader(value)
	}
	w.Subject, w.Header[headerTraceParent] = attributes["natssubject"], escapeHeader(attributes["traceparent"])
	seq, err := ParseSequence(attributes["sequence"])
	if err != nil {
		return Event{}, invalidf("structured event: sequence: %v", err)
	}
	return Decode(w, seq, time.Time{})
}

// escapeHeader percent-encodes what a CloudEvents header value may not hold: space, double quote, percent,
// and everything outside printable ASCII (CloudEvents HTTP and NATS bindings, "attribute value encoding").
func escapeHeader(s string) string {
	const hex = "0123456789ABCDEF"
	plain := func(b byte) bool { return b > ' ' && b < 0x7f && b != '"' && b != '%' }
	n := 0
	for n < len(s) && plain(s[n]) {
		n++
	}
	if n == len(s) {
		return s
	}
	out := append(make([]byte, 0, len(s)+32), s[:n]...)
	for ; n < len(s); n++ {
		if b := s[n]; plain(b) {
			out = append(out, b)
		} else {
			out = append(out, '%', hex[b>>4], hex[b&15])
		}
	}
	return string(out)
}

func unescapeHeader(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", invalidf("value %q ends within a percent code", s)
		}
		b, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", invalidf("value %q: %v", s, err)
		}
		out = append(out, byte(b))
		i += 2
	}
	return string(out), nil
}

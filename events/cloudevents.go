package events

import (
	"encoding/json"
	"fmt"
	"strconv"
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

// Wire is an event as a NATS message: subject, headers (one value each) and payload.
type Wire struct {
	Subject string
	Header  map[string]string
	Data    []byte
}

// Encode makes the event's message. The event is not validated here: see [Event.Validate].
func Encode(e Event) (Wire, error) {
	body, err := json.Marshal(data{Object: e.Object, Changes: e.Changes})
	if err != nil {
		return Wire{}, invalidf("event %s about %s: %v", e.Type, e.Subject.Key, err)
	}
	h := map[string]string{
		headerSpecVersion: specVersion,
		headerID:          e.ID,
		headerType:        e.Type,
		headerSource:      sourceRoot + e.Source,
		headerSubject:     e.Subject.Key.String(),
		headerTime:        e.Time.UTC().Format(time.RFC3339Nano),
		headerDataSchema:  DataSchema,
		headerContentType: "application/json",
		headerActor:       escapeHeader(e.Actor),
		headerUID:         e.UID,
	}
	for name, value := range map[string]string{headerOnBehalfOf: e.OnBehalfOf, headerReason: e.Reason, headerTraceParent: e.TraceParent} {
		if value != "" {
			h[name] = escapeHeader(value)
		}
	}
	for name, value := range map[string]Sequence{headerCause: e.Cause, headerCorrelation: e.Correlation} {
		if value != 0 {
			h[name] = value.String()
		}
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
	var d data
	if err := json.Unmarshal(w.Data, &d); err != nil {
		return fail("data", err)
	}
	e := Event{Sequence: seq, Stored: stored, ID: w.Header[headerID], Subject: subject, Type: w.Header[headerType],
		Time: at, UID: w.Header[headerUID], Object: d.Object, Changes: d.Changes}
	e.Source = trimSource(w.Header[headerSource])
	for name, to := range map[string]*string{headerActor: &e.Actor, headerOnBehalfOf: &e.OnBehalfOf, headerReason: &e.Reason, headerTraceParent: &e.TraceParent} {
		if *to, err = unescapeHeader(w.Header[name]); err != nil {
			return fail(name, err)
		}
	}
	for name, to := range map[string]*Sequence{headerCause: &e.Cause, headerCorrelation: &e.Correlation} {
		if v := w.Header[name]; v != "" {
			if *to, err = ParseSequence(v); err != nil {
				return fail(name, err)
			}
		}
	}
	return e, nil
}

func trimSource(s string) string {
	if len(s) >= len(sourceRoot) && s[:len(sourceRoot)] == sourceRoot {
		return s[len(sourceRoot):]
	}
	return s
}

// Structured is the event as a CloudEvents 1.0 JSON object (structured mode), for readers that are not on
// NATS: orlog tail -o json, webhooks. sequence is an extension.
func Structured(e Event) (json.RawMessage, error) {
	w, err := Encode(e)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"sequence": e.Sequence.String(), "datacontenttype": "application/json", "data": json.RawMessage(w.Data), "natssubject": w.Subject}
	for name, value := range w.Header {
		switch name {
		case headerContentType:
		case headerTraceParent:
			out[name] = value
		default:
			out[name[len("ce-"):]] = value
		}
	}
	for name, value := range map[string]string{"actor": e.Actor, "onbehalfof": e.OnBehalfOf, "reason": e.Reason} {
		if value != "" {
			out[name] = value
		}
	}
	return json.Marshal(out)
}

// escapeHeader percent-encodes what a CloudEvents header value may not hold: space, double quote, percent,
// and everything outside printable ASCII (CloudEvents HTTP and NATS bindings, "attribute value encoding").
func escapeHeader(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if b := s[i]; b > ' ' && b < 0x7f && b != '"' && b != '%' {
			out = append(out, b)
		} else {
			out = append(out, '%')
			if b < 16 {
				out = append(out, '0')
			}
			out = strconv.AppendUint(out, uint64(b), 16)
		}
	}
	return string(out)
}

func unescapeHeader(s string) (string, error) {
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

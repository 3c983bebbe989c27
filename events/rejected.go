package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// RejectedType is the type of an event that stands for a message on the log that is none: see [Read].
const RejectedType = TypePrefix + "message.rejected"

// rejectedUID stands where an event names its object's life; no object has it.
const rejectedUID = "rejected"

// Rejected reports whether the event stands for a message that is no event. It has no effect on any state.
func (e Event) Rejected() bool { return e.Type == RejectedType }

// Read is Decode for readers of the log, who must go on whatever stands there: a node may append to its own
// subjects what it likes, past every check of a writer. Where the message is no event, Read gives one of
// [RejectedType] in its place, which says why, holds the message's hash, and changes no state. It depends on the
// message alone, so all readers decide alike.
func Read(w Wire, seq Sequence, stored time.Time) Event {
	e, err := Decode(w, seq, stored)
	if err == nil {
		err = e.acceptable()
	}
	if err == nil && large(w) {
		_, err = Encode(e)
	}
	if err != nil {
		return reject(w, seq, stored, err)
	}
	return e
}

// large reports whether what was read may exceed the limits of Encode when it is written again, as the notary does:
// escaping may make six bytes of one in JSON, and three in a header.
func large(w Wire) bool {
	header := 0
	for name, value := range w.Header {
		header += len(name) + len(value)
	}
	return len(w.Data) > MaxEventBytes/6 || header > MaxHeaderBytes/3
}

// longestReason bounds, in bytes, what is told of a message that is no event: it may quote the message.
const longestReason = 512

// acceptable is what Validate says of an event just decoded, without what decoding has established.
func (e Event) acceptable() error {
	if err := e.checkAttributes(); err != nil {
		return err
	}
	if e.ID == "" {
		return invalidf("id is required")
	}
	if year := e.Time.UTC().Year(); year < 1 || year > 9999 { // JSON has no other
		return invalidf("time %v: the year is out of range", e.Time)
	}
	if len(e.Object) == 0 || e.Object[0] != '{' {
		return invalidf("object must be a JSON object")
	}
	if len(e.Changes) > 0 && e.Changes[0] != '[' {
		return invalidf("changes must be a JSON array")
	}
	if e.Subject.Class == Observed && e.Subject.Node != "" { // a node's own words, which no writer of ours has checked
		_, err := DecodeChanges(e.Changes)
		return err
	}
	return nil
}

func reject(w Wire, seq Sequence, stored time.Time, why error) Event {
	subject, err := ParseSubject(w.Subject)
	if err != nil || subject.Validate() != nil {
		// Nobody's object: it stands under the subject's own text.
		subject = Subject{Class: Observed, Key: Key{Group: "orlog.io", Resource: "rejected", Name: w.Subject}}
	}
	from := "unknown"
	if subject.Node != "" { // only that node may append there
		from = "system:node:" + subject.Node
	}
	hash := hashOf(w)
	told := strings.ToValidUTF8(why.Error(), "?")
	if len(told) > longestReason {
		told = strings.ToValidUTF8(told[:longestReason], "") + "..."
	}
	object, err := json.Marshal(map[string]any{"metadata": map[string]string{"uid": rejectedUID},
		"status": map[string]any{"rejected": told, "bytes": len(w.Data), "sha256": hash}})
	if err != nil { // cannot happen: strings and a number
		panic("events: " + err.Error())
	}
	return Event{Sequence: seq, Stored: stored, ID: "rejected-" + seq.String(), Subject: subject, Type: RejectedType, Source: "log", Time: stored,
		Actor: from, Reason: "no event: " + told, UID: rejectedUID, Object: object}
}

// hashOf is the SHA-256 of the message as its writer made it: what the server adds is left out.
func hashOf(w Wire) string {
	h := sha256.New()
	part := func(s string) { h.Write([]byte(s + "\x00")) }
	part(w.Subject)
	for _, name := range slices.Sorted(maps.Keys(w.Header)) {
		if strings.HasPrefix(name, "ce-") || name == headerTraceParent || name == headerContentType {
			part(name)
			part(w.Header[name])
		}
	}
	h.Write(w.Data)
	return hex.EncodeToString(h.Sum(nil))
}

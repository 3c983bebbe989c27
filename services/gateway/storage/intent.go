package storage

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
)

// rewrite is an update that is to be told as an event: pure data.
type rewrite struct {
	resource schema.GroupResource
	// subresource is the request's; known says whether that is known.
	subresource string
	known       bool
	state       events.State
	was, is     document
	diff        difference
}

// statement says what changed, in the class of event that it belongs to, and whether the event carries
// status. It is pure.
func (r rewrite) statement() (st statement, withStatus bool, err error) {
	k := r.state.Key
	st = statement{class: events.Desired, key: k, kind: kindOf(r.resource, r.is), uid: r.is.uid(k), node: nodeOf(k, r.is)}
	sameLife := st.uid == r.state.UID
	// A status that is written through the object itself belongs to a kind without a status of its own.
	if r.diff.status && !r.diff.rest && !r.diff.orphaned && sameLife && (!r.known || r.subresource != "") {
		st.class = events.Observed
	}
	withStatus = r.diff.status || !sameLife // to Fold, another uid is another life, which keeps no status
	var was []byte
	switch {
	case st.class == events.Observed:
		was, st.object = r.was.part(true), r.is.report(st.uid)
		st.changes, err = events.Diff(was, r.is.part(true))
	case withStatus:
		st.object = r.is.intent(true)
		st.changes, err = events.Diff(r.state.Object, r.is.whole())
	default:
		st.object = r.is.intent(false)
		st.changes, err = events.Diff(r.was.part(false), st.object)
	}
	st.verb = r.verb(st.class, st.changes)
	return st, withStatus, err
}

// appendUpdate appends what changed.
//
// A change of the rest alone is guarded by the newest desired event only: a status report that comes in
// between is kept, and does not turn the intent away. A change that carries status, alone or with the rest,
// replaces it, so it is guarded by the newest event of either class: a desired event may carry a status too
// (a binding, a namespace that begins to terminate), and must not be undone by a report that had not seen it.
func (s *store) appendUpdate(ctx context.Context, cur *current, doc document, diff difference, prepared string, pre *apistorage.Preconditions) (events.Sequence, error) {
	a, known := AttributionFrom(ctx)
	r := rewrite{resource: s.resource, subresource: a.Subresource, known: known, state: cur.state, was: cur.doc, is: doc, diff: diff}
	st, withStatus, err := r.statement()
	if err != nil {
		return 0, s.failure("diff", prepared, err)
	}
	e := s.event(ctx, st)
	guard := events.ExpectObject(e.Subject, cur.state.Newest())
	if !withStatus && (pre == nil || pre.ResourceVersion == nil) {
		guard = events.ExpectClass(e.Subject, cur.state.Desired)
	}
	return s.append(ctx, e, guard, prepared)
}

// result puts the object as of the event seq into out, from the projection: where a status report came in between, the
// folded state has that too. data is what was written.
func (s *store) result(out runtime.Object, data []byte, cur current, seq events.Sequence) error {
	state, err := s.cursor(cur.state.Key)
	if err != nil {
		return err
	}
	if state.Revision == seq && !state.Deleted {
		return s.decodeWritten(state.Object, out, state.Revision)
	}
	if state.Revision > seq {
		if view, err := s.proj.At(seq); err == nil {
			defer view.Close()
			if state, ok, err := view.Get(cur.state.Key); err == nil && ok && state.Revision == seq {
				return s.decodeWritten(state.Object, out, state.Revision)
			}
		}
	}
	return s.decode(data, out, seq) // the projection has no past
}

// kindOf is the lower-case kind in event types; the resource where the object names none.
func kindOf(resource schema.GroupResource, doc document) string {
	kind := doc.text("kind")
	if kind == "" || strings.Contains(kind, ".") {
		return resource.Resource
	}
	return strings.ToLower(kind)
}

// nodeLeases is the namespace of the nodes' heartbeats.
const nodeLeases = "kube-node-lease"

// nodeOf is the node that an object concerns: the one that must act on it or reports it; "" for none.
func nodeOf(k events.Key, doc document) string {
	switch k.GroupResource() {
	case "pods":
		return doc.text("spec", "nodeName")
	case "nodes", "csinodes.storage.k8s.io":
		return k.Name
	case "leases.coordination.k8s.io":
		if k.Namespace == nodeLeases {
			return k.Name
		}
	}
	return ""
}

// Package change puts what an event changed into words: it turns the RFC 6902 paths of an event into fields as
// a person names them (spec.template.spec.containers[web].image), joins what belongs together (a condition's
// status, reason and message; a container's state) and knows which fields are bookkeeping.
//
// It is pure: changes and, where the caller has it, the object as it was right after them go in, Fields come
// out. With the object, list elements are named by what identifies them (name, type, port...) and lists whose
// order moved are compared by that; without it they keep their index.
package change

// Package narrator tells history in Kubernetes' words: it writes the core/v1 Event objects of kubectl describe
// and kubectl events, as Kubernetes' own scheduler, controllers and nodes would have recorded them. What
// containers go through (Pulled, Started, Killing, BackOff, Unhealthy) the node's agent records itself.
//
// How data passes through:
//
//	log -> Narrate (one event of the log -> what is told of it) -> memory (counts what repeats, combines what
//	       is alike, drops floods) -> Performer (the gateway, as the component that is said to tell it)
//
// [Narrate] is pure and needs no projection: an event carries what was and what is. It tells only what Orlog's
// own components did ([tales] says by whom and what about), as other people's controllers record their own
// Events. No tale is about Events: narration cannot feed itself.
//
// The narrator is no [loop.Decider]: deciders look at states, of which several steps may have become one, and
// after a restart at the present only. The narrator reads the log instead, from where it stopped. It finds
// that place in the Events themselves: each carries the sequence that it was last written for
// ([sequenceAnnotation]). Events are written in the order of the log, one at a time, and their names derive
// from the sequence, so that the log is told once, however often the narrator is restarted and however long it
// was away. Events do not expire, unless somebody sets --event-ttl.
//
// Narration is a courtesy. It waits for the reconcilers' projection, has one request under way at most and a
// budget of requests, and what the gateway refuses for good is logged and left out. What must not be lost is
// on the log already.
package narrator

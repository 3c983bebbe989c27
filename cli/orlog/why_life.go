package main

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// life is what happened to an object since it was created last: its newest events, newest first.
type life struct {
	api    *apiClient
	target *target
	events []entry
}

// life reads an object's events up to its newest one.
func (a *apiClient) life(ctx context.Context, t *target, newest entry) (*life, error) {
	var page struct {
		Entries []entry `json:"entries"`
	}
	q := url.Values{"limit": {strconv.Itoa(historyPage)}, "to": {strconv.FormatUint(newest.Sequence, 10)}}
	if err := a.ask(ctx, "/orlog/v1/history", t, q, &page); err != nil {
		return nil, err
	}
	l := &life{api: a, target: t}
	for _, e := range slices.Backward(page.Entries) {
		if e.UID == newest.UID {
			l.events = append(l.events, e)
		}
	}
	return l, nil
}

// first finds the newest event that fits.
func (l *life) first(fits func(entry) bool) (entry, bool) {
	i := slices.IndexFunc(l.events, fits)
	if i < 0 {
		return entry{}, false
	}
	return l.events[i], true
}

func (l *life) chain(ctx context.Context, from entry) ([]entry, error) {
	return l.api.chain(ctx, l.target, url.Values{"sequence": {strconv.FormatUint(from.Sequence, 10)}})
}

// boring events only carry numbers on.
func boring(e entry) bool {
	return quiet[e.Verb] && (e.observed() || strings.HasPrefix(e.Actor, "system:"))
}

// answer picks the chain that explains an object which is there, and another for what was done to it later on
// somebody else's account. newest is the chain of its newest event.
func (l *life) answer(ctx context.Context, newest []entry, well bool) (chain, later []entry, err error) {
	chain = newest
	if well && boring(newest[0]) {
		telling := func(e entry) bool {
			return !boring(e) && (!e.observed() || l.target.GroupResource() == "pods")
		}
		if e, found := l.first(telling); found {
			if chain, err = l.chain(ctx, e); err != nil {
				return nil, nil, err
			}
		}
	}
	created := func(e entry) bool { return e.creation() && e.key() == l.target.Key }
	if slices.ContainsFunc(chain, created) {
		return chain, nil, nil
	}
	// Others may have brought the object about: then the chain that led there is the answer, and the newest
	// change an addition to it.
	led := func(e entry) bool { return e.Cause != 0 && !boring(e) && (e.observed() || e.creation()) }
	e, found := l.first(led)
	if !found {
		return chain, nil, nil
	}
	older, err := l.chain(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(older, created) {
		return chain, nil, nil
	}
	return older, chain, nil
}

// requests are verbs by which the end of an object begins.
var requests = map[string]bool{"deletion-requested": true, "termination-requested": true, "terminating": true, "evicted": true}

// withRequest makes sure that the chain of an object's end holds the request that began it: who takes away the
// last finalizer need not know of it.
func (l *life) withRequest(ctx context.Context, chain []entry) ([]entry, error) {
	request, found := l.first(func(e entry) bool { return !e.observed() && requests[e.Verb] })
	if !found || slices.ContainsFunc(chain, func(e entry) bool { return e.Sequence == request.Sequence }) {
		return chain, nil
	}
	root := chain[len(chain)-1]
	if root.key() != l.target.Key || root.Sequence < request.Sequence {
		return chain, nil
	}
	before, err := l.chain(ctx, request)
	return append(chain, before...), err
}

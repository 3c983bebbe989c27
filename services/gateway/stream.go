package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/orlog-io/orlog/events"
)

const streamPath = endpointsPath + "events"

// orStreams makes the event stream a long-running request, which no timeout ends.
func orStreams(inner request.LongRunningRequestCheck) request.LongRunningRequestCheck {
	return func(r *http.Request, info *request.RequestInfo) bool {
		return info.Path == streamPath || inner(r, info)
	}
}

// stream answers with events as CloudEvents 1.0 in structured mode, one JSON object a line, from the log
// itself. from is the first sequence (default: 1, or the next one where follow is true), to the last; follow
// goes on for ever. group, resource, namespace, name and class narrow it down; then whoever may watch that
// resource may read, else whoever has the path by RBAC.
func (e *endpoints) stream(w http.ResponseWriter, r *http.Request) {
	s, err := e.openStream(r)
	if err != nil {
		writeError(w, r, apiError(err))
		return
	}
	defer s.subscription.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if err := s.copyTo(w, r); err != nil && r.Context().Err() == nil {
		// The status is sent: all that is left is to end the connection, and to say why here.
		e.settings.Logger.Warn("gateway: an event stream broke off", events.LogSequence, s.from, events.LogError, err)
		panic(http.ErrAbortHandler)
	}
}

// eventStream is one reader of the log.
type eventStream struct {
	subscription events.Subscription
	from         events.Sequence
	// to is the last sequence wanted, 0 for no end; pattern selects.
	to      events.Sequence
	pattern string
}

func (e *endpoints) openStream(r *http.Request) (*eventStream, error) {
	q, err := parseQuery(r, "follow", "class")
	if err != nil {
		return nil, err
	}
	follow, err := parseBool(r, "follow")
	if err != nil {
		return nil, err
	}
	pattern, err := patternOf(q, r.URL.Query().Get("class"))
	if err != nil {
		return nil, err
	}
	if err := e.mayAsk(r, "watch", q); err != nil {
		return nil, err
	}
	last, err := e.settings.Log.Last(r.Context())
	if err != nil {
		return nil, apierrors.NewServiceUnavailable("the log cannot be reached: " + err.Error())
	}
	s := &eventStream{from: q.from, to: q.to, pattern: pattern}
	if s.from == 0 && follow {
		s.from = last + 1
	}
	if !follow && (s.to == 0 || s.to > last) {
		s.to = last
	}
	// With an end, everything is read and selected here: a filtered subscription would wait for ever for an
	// event beyond the last one that matches.
	var patterns []string
	if s.to == 0 && pattern != "" {
		patterns = []string{pattern}
	}
	if s.subscription, err = e.settings.Log.Subscribe(r.Context(), max(s.from, 1), patterns...); err != nil {
		return nil, apierrors.NewServiceUnavailable("reading the log: " + err.Error())
	}
	return s, nil
}

func (s *eventStream) copyTo(w http.ResponseWriter, r *http.Request) error {
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	if s.to != 0 && s.from > s.to {
		return nil
	}
	for {
		batch, err := s.subscription.Next(r.Context())
		if errors.Is(err, events.ErrClosed) {
			return nil // the gateway ends
		}
		if err != nil {
			return err
		}
		for _, event := range batch {
			if s.to != 0 && event.Sequence > s.to {
				return nil
			}
			if s.pattern == "" || events.Matches(s.pattern, event.Subject.String()) {
				if err := writeEvent(w, event); err != nil {
					return err
				}
			}
			if event.Sequence == s.to {
				return nil
			}
		}
		if err := flush.Flush(); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
	}
}

func writeEvent(w http.ResponseWriter, e events.Event) error {
	line, err := events.Structured(e)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func parseBool(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, apierrors.NewBadRequest(fmt.Sprintf("parameter %s: %q is neither true nor false", name, text))
	}
	return b, nil
}

// patternOf is the subject pattern of what a query selects, "" for everything. The subject's own formatting
// escapes names; parts that are not given become wildcards.
func patternOf(q query, class string) (string, error) {
	if class != "" && class != string(events.Desired) && class != string(events.Observed) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("parameter class: %q is neither %s nor %s", class, events.Desired, events.Observed))
	}
	if q.Resource == "" && (q.Group != "" || q.Namespace != "" || q.Name != "") {
		return "", apierrors.NewBadRequest("parameters group, namespace and name need a resource")
	}
	if q.Resource == "" && class == "" {
		return "", nil
	}
	tokens := strings.Split(events.Subject{Class: events.Class(class), Key: q.Key}.AnyNode(), ".")
	if len(tokens) != 7 {
		return "", apierrors.NewBadRequest("parameters resource, namespace and name do not make a subject")
	}
	wild := []bool{1: class == "", 2: q.Resource == "", 3: q.Resource == "", 4: q.Namespace == "", 5: q.Name == ""}
	for i, any := range wild {
		if any {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, "."), nil
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/orlog-io/orlog/events"
	logstorage "github.com/orlog-io/orlog/services/gateway/storage"
)

// pastPrefix begins the path of every request about the past: /at/<moment>/<ordinary path>.
const pastPrefix = "/at/"

// catchUp is how long a request for a moment that the log has, but our store not yet, waits for it.
const catchUp = 5 * time.Second

// sequenceFrom is the moment that a request is about; false for the present.
func sequenceFrom(ctx context.Context) (events.Sequence, bool) {
	seq := logstorage.SequenceFrom(ctx)
	return seq, seq != 0
}

// withTravel serves /at/<moment>/...: the same API, read-only, as of then. It is the outermost filter, so
// that authorisation and everything else sees the ordinary path. Permissions and schemas are today's.
func (g *Gateway) withTravel(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, past := strings.CutPrefix(r.URL.Path, pastPrefix)
		if !past {
			next.ServeHTTP(w, r)
			return
		}
		moment, path, _ := strings.Cut(rest, "/")
		path = "/" + path
		if err := readOnly(r, path); err != nil {
			writeError(w, r, err)
			return
		}
		ctx := r.Context()
		if !timeless(path) {
			seq, err := g.moment(ctx, moment)
			if err != nil {
				writeError(w, r, err)
				return
			}
			w.Header().Set("Orlog-Sequence", seq.String())
			ctx = logstorage.WithSequence(ctx, seq)
		}
		there := r.WithContext(ctx)
		there.URL = new(url.URL)
		*there.URL = *r.URL
		there.URL.Path, there.URL.RawPath = path, ""
		there.RequestURI = there.URL.RequestURI()
		next.ServeHTTP(w, there)
	})
}

// readOnly refuses what has no meaning in the past. The path is the one behind the prefix.
func readOnly(r *http.Request, path string) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return refuse(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the past is read-only: %s is not possible under %s", r.Method, pastPrefix)
	}
	if strings.HasPrefix(path, pastPrefix) {
		return apierrors.NewBadRequest("one " + pastPrefix + "<moment> is enough")
	}
	return nil
}

// timeless paths are the same at every moment: which resources there are, their schemas, health. They answer
// for moments that are not there too, so that kubectl gets as far as showing what is wrong with the moment.
func timeless(path string) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch parts[0] {
	case "api":
		return len(parts) <= 2
	case "apis":
		return len(parts) <= 3
	case "openapi", "version", "livez", "readyz", "healthz", ".well-known":
		return true
	}
	return false
}

// liveSubresources talk to what runs now. As WebSockets they are GETs too.
var liveSubresources = map[string]bool{"exec": true, "attach": true, "portforward": true, "proxy": true, "log": true}

// refuseLive refuses, of requests about the past, those that only the present can answer: talking to what
// runs, and reading from aggregated API servers elsewhere. It sits where the request is understood.
func (g *Gateway) refuseLive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, known := request.RequestInfoFrom(r.Context())
		if _, past := sequenceFrom(r.Context()); !past || !known || !info.IsResourceRequest {
			next.ServeHTTP(w, r)
			return
		}
		switch {
		case info.Verb == "proxy" || liveSubresources[info.Subresource]:
			writeError(w, r, refuse(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
				"%s/%s talks to what runs now: it is not possible under %s", info.Resource, info.Subresource, pastPrefix))
		case info.APIGroup != "" && g.isRemote(info.APIVersion+"."+info.APIGroup):
			writeError(w, r, refuse(http.StatusNotImplemented, "NotImplemented",
				"%s/%s is served by an aggregated API server outside the log: it has no past here", info.APIGroup, info.APIVersion))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (g *Gateway) isRemote(apiService string) bool {
	if g.aggregator == nil {
		return false
	}
	// A name that is not there is the not-found handler's to answer.
	s, err := g.aggregator.APIRegistrationInformers.Apiregistration().V1().APIServices().Lister().Get(apiService)
	return err == nil && s.Spec.Service != nil
}

// moment turns a sequence, a time (RFC 3339, or a date or date and time in UTC), or a duration before now
// ("15m", "-2h30m") into a sequence that the store has.
func (g *Gateway) moment(ctx context.Context, text string) (events.Sequence, error) {
	if seq, err := events.ParseSequence(text); err == nil {
		return g.reached(ctx, seq)
	}
	now := time.Now()
	t, err := parseTime(text, now)
	if err != nil {
		return 0, apierrors.NewBadRequest(err.Error())
	}
	if t.After(now) {
		return 0, refuse(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "%s is in the future (it is %s)", t.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	view, err := g.settings.Store.AtTime(t)
	if err != nil {
		return 0, momentError(text, err)
	}
	defer view.Close()
	if view.Sequence() == 0 {
		return 0, apierrors.NewBadRequest("the log begins after " + t.UTC().Format(time.RFC3339))
	}
	return view.Sequence(), nil
}

// reached waits for a sequence that the log has given out already; one that it has not is the future.
func (g *Gateway) reached(ctx context.Context, seq events.Sequence) (events.Sequence, error) {
	if seq == 0 {
		return 0, apierrors.NewBadRequest("sequences begin at 1")
	}
	if seq <= g.settings.Store.Position() {
		return seq, nil
	}
	last, err := g.settings.Log.Last(ctx)
	if err != nil {
		return 0, apierrors.NewServiceUnavailable("the log cannot be reached: " + err.Error())
	}
	if seq > last {
		return 0, refuse(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "sequence %d is in the future: the log ends at %d", seq, last)
	}
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	if err := g.settings.Store.WaitFor(ctx, seq); err != nil {
		return 0, refuse(http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "sequence %d has not been read yet: this gateway is at %d of %d", seq, g.settings.Store.Position(), last)
	}
	return seq, nil
}

func momentError(text string, err error) error {
	if errors.Is(err, events.ErrNotFound) || errors.Is(err, events.ErrInvalid) {
		return apierrors.NewBadRequest(fmt.Sprintf("moment %q: %v", text, err))
	}
	return apierrors.NewInternalError(fmt.Errorf("moment %q: %w", text, err))
}

// parseTime reads a moment that is not a sequence. A bare date or time is UTC.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "-")); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a moment: want a sequence (4711), a time (2026-11-20T14:05:00Z, 2026-11-20) or how long ago (15m, 2h30m)", text)
}

// refuse makes an API error with a code that upstream has no constructor for.
func refuse(code int32, reason metav1.StatusReason, format string, args ...any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"github.com/orlog-io/orlog/events"
	logstorage "github.com/orlog-io/orlog/services/gateway/storage"
)

// Request headers of Orlog's own.
const (
	// HeaderCause is "<sequence>[;<correlation>]": the event that led to this request and the first of the
	// chain. Honoured from system identities only, so that nobody can blame another's event.
	HeaderCause = "Orlog-Cause"
	// HeaderReason is why, in a person's words or as a decision record. At most maxReason bytes.
	HeaderReason = "Orlog-Reason"

	headerTraceParent = "Traceparent"
	maxReason         = 16 << 10
	source            = "gateway"

	systemControllers = "system:serviceaccount:kube-system:"
)

// identity is who a request really came from, before impersonation. The filter that is outermost puts an
// empty one into the context, the authenticator fills it.
type identity struct{ user user.Info }

type identityKey struct{}

// withIdentity makes room for the authenticated identity: by the time that attribution runs, impersonation
// has replaced the request's user.
func withIdentity(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, &identity{})))
	})
}

// rememberingAuthenticator keeps whom it authenticated for attribution.
type rememberingAuthenticator struct{ authenticator.Request }

// AuthenticateRequest implements authenticator.Request.
func (a rememberingAuthenticator) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	resp, ok, err := a.Request.AuthenticateRequest(r)
	if id, room := r.Context().Value(identityKey{}).(*identity); room && ok && err == nil {
		id.user = resp.User
	}
	return resp, ok, err
}

// withAttribution tells the storage who makes the request, for whom, and why.
func (g *Gateway) withAttribution(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := attribute(r)
		if err != nil {
			writeError(w, r, apierrors.NewBadRequest(err.Error()))
			return
		}
		a.TraceParent = g.traceOf(r, a.Cause)
		next.ServeHTTP(w, r.WithContext(logstorage.WithAttribution(r.Context(), a)))
	})
}

// attribute reads a request's attribution, but for its trace. The actor is the effective user: the one whose permissions
// counted. Where somebody impersonated that user, they are who it was done for, and recorded so. The gateway
// acting as one of its own controllers impersonates too, but only itself: that is no second party.
func attribute(r *http.Request) (logstorage.Attribution, error) {
	ctx := r.Context()
	a := logstorage.Attribution{Source: source}
	effective, _ := request.UserFrom(ctx)
	if effective != nil {
		a.Actor = effective.GetName()
	}
	id, _ := ctx.Value(identityKey{}).(*identity)
	loopback := id != nil && id.user != nil && id.user.GetName() == user.APIServerUser
	if id != nil && id.user != nil && !loopback && id.user.GetName() != a.Actor {
		a.OnBehalfOf = id.user.GetName()
	}
	if info, ok := request.RequestInfoFrom(ctx); ok {
		a.Verb, a.Subresource = info.Verb, info.Subresource
	}
	if reason := r.Header.Get(HeaderReason); reason != "" {
		if len(reason) > maxReason || !utf8.ValidString(reason) {
			return a, fmt.Errorf("header %s: want at most %d bytes of UTF-8, got %d", HeaderReason, maxReason, len(reason))
		}
		a.Reason = reason
	}
	if cause := r.Header.Get(HeaderCause); cause != "" && (loopback || strings.HasPrefix(a.Actor, systemControllers)) {
		var err error
		if a.Cause, a.Correlation, err = parseCause(cause); err != nil {
			return a, err
		}
	}
	return a, nil
}

// parseCause reads "<sequence>[;<correlation>]". The correlation defaults to the sequence.
func parseCause(text string) (cause, correlation events.Sequence, err error) {
	first, second, both := strings.Cut(text, ";")
	if cause, err = events.ParseSequence(strings.TrimSpace(first)); err == nil && both {
		correlation, err = events.ParseSequence(strings.TrimSpace(second))
	} else if err == nil {
		correlation = cause
	}
	if err != nil || cause == 0 || correlation == 0 || correlation > cause {
		return 0, 0, fmt.Errorf("header %s: %q is not <sequence>[;<correlation>]", HeaderCause, text)
	}
	return cause, correlation, nil
}

// writeError answers with a Kubernetes Status in the encoding that the client asked for.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	responsewriters.ErrorNegotiated(err, legacyscheme.Codecs, schema.GroupVersion{Version: "v1"}, w, r)
}

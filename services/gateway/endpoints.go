package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/orlog-io/orlog/events"
)

// endpointsPath begins the path of every endpoint that Kubernetes does not have.
const endpointsPath = "/orlog/v1/"

// endpoints answers questions about the log itself: history, why, events, position, digest. Each checks for
// itself who may ask: whoever may read the object, or has the non-resource URL by RBAC.
type endpoints struct {
	settings   *settings
	authorizer authorizer.Authorizer
}

// addEndpoints mounts the endpoints beside upstream's.
func (g *Gateway) addEndpoints(a authorizer.Authorizer) {
	e := &endpoints{settings: g.settings, authorizer: a}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+endpointsPath+"history", e.answer(e.history))
	mux.HandleFunc("GET "+endpointsPath+"why", e.answer(e.why))
	mux.HandleFunc("GET "+endpointsPath+"position", e.answer(g.position))
	mux.HandleFunc("GET "+endpointsPath+"digest", e.answer(e.digest))
	mux.HandleFunc("GET "+endpointsPath+"log", e.answer(e.logClients))
	mux.HandleFunc("GET "+streamPath, e.stream)
	g.aggregator.GenericAPIServer.Handler.NonGoRestfulMux.HandlePrefix(endpointsPath, mux)
}

// endpointsAuthorizer lets authenticated users reach the endpoints, which then decide with the object in
// hand. Everything else is the inner authorizer's.
type endpointsAuthorizer struct{ authorizer.Authorizer }

// Authorize implements authorizer.Authorizer.
func (a endpointsAuthorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	known := attrs.GetUser() != nil && slices.Contains(attrs.GetUser().GetGroups(), user.AllAuthenticated)
	if known && !attrs.IsResourceRequest() && strings.HasPrefix(attrs.GetPath(), endpointsPath) && attrs.IsReadOnly() {
		return authorizer.DecisionAllow, "the endpoint decides", nil
	}
	return a.Authorizer.Authorize(ctx, attrs)
}

// answer turns a function into a handler that writes its result as JSON, or its error as a Status.
func (e *endpoints) answer(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := f(r)
		if err != nil {
			writeError(w, r, apiError(err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(result); err != nil {
			e.settings.Logger.Debug("gateway: a client went away", "path", r.URL.Path, "error", err)
		}
	}
}

// apiError makes any error an API error.
func apiError(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok {
		return err
	}
	return apierrors.NewInternalError(err)
}

// mayAsk allows a request whose user may do verb with what q names, or has the path by non-resource rules.
func (e *endpoints) mayAsk(r *http.Request, verb string, q query) error {
	allowed, err := e.may(r.Context(), verb, q.Key)
	if err == nil && !allowed {
		allowed, err = e.mayAnything(r)
	}
	if err != nil {
		return err
	}
	if !allowed {
		who, _ := request.UserFrom(r.Context())
		return apierrors.NewForbidden(schema.GroupResource{Group: q.Group, Resource: q.Resource}, q.Name,
			fmt.Errorf("user %q may neither %s this nor %s %s", who.GetName(), verb, r.Method, r.URL.Path))
	}
	return nil
}

func (e *endpoints) may(ctx context.Context, verb string, k events.Key) (bool, error) {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return false, apierrors.NewUnauthorized("who are you?")
	}
	if k.Resource == "" {
		return false, nil
	}
	decision, _, err := e.authorizer.Authorize(ctx, authorizer.AttributesRecord{User: who, Verb: verb, APIGroup: k.Group,
		APIVersion: "*", Resource: k.Resource, Namespace: k.Namespace, Name: k.Name, ResourceRequest: true})
	return decision == authorizer.DecisionAllow, unlessDecided(decision, err)
}

// mayAnything is whether RBAC gives the user the path itself: then every object's answers are theirs.
func (e *endpoints) mayAnything(r *http.Request) (bool, error) {
	who, ok := request.UserFrom(r.Context())
	if !ok {
		return false, apierrors.NewUnauthorized("who are you?")
	}
	decision, _, err := e.authorizer.Authorize(r.Context(), authorizer.AttributesRecord{User: who, Verb: "get", Path: r.URL.Path})
	return decision == authorizer.DecisionAllow, unlessDecided(decision, err)
}

// unlessDecided drops errors beside an allowing decision: RBAC reports roles that it could not resolve on the way.
func unlessDecided(d authorizer.Decision, err error) error {
	if d == authorizer.DecisionAllow || err == nil {
		return nil
	}
	return apierrors.NewForbidden(schema.GroupResource{}, "", err)
}

// query is what a request asks about.
type query struct {
	events.Key
	from, to events.Sequence
	limit    int
}

// parseQuery reads group, resource, namespace, name, from, to and limit. resource may be "deployments.apps".
// Unknown parameters are refused: a misspelt filter must not look like a complete answer.
func parseQuery(r *http.Request, further ...string) (q query, err error) {
	v := r.URL.Query()
	for name, values := range v {
		if !slices.Contains(append([]string{"group", "resource", "namespace", "name", "from", "to", "limit"}, further...), name) {
			return q, apierrors.NewBadRequest(fmt.Sprintf("unknown parameter %q", name))
		}
		if len(values) != 1 {
			return q, apierrors.NewBadRequest(fmt.Sprintf("parameter %q is given %d times", name, len(values)))
		}
	}
	q.Key = events.Key{Group: v.Get("group"), Resource: v.Get("resource"), Namespace: v.Get("namespace"), Name: v.Get("name")}
	if resource, group, both := strings.Cut(q.Resource, "."); both && q.Group == "" {
		q.Resource, q.Group = resource, group
	}
	for name, to := range map[string]*events.Sequence{"from": &q.from, "to": &q.to} {
		if text := v.Get(name); text != "" {
			if *to, err = events.ParseSequence(text); err != nil {
				return q, apierrors.NewBadRequest(fmt.Sprintf("parameter %s: %q is not a sequence", name, text))
			}
		}
	}
	if text := v.Get("limit"); text != "" {
		if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 {
			return q, apierrors.NewBadRequest(fmt.Sprintf("parameter limit: %q is not a positive number", text))
		}
	}
	if at, past := sequenceFrom(r.Context()); past && (q.to == 0 || q.to > at) {
		q.to = at
	}
	return q, nil
}

// parseObjectQuery is parseQuery for endpoints about one object.
func parseObjectQuery(r *http.Request, further ...string) (query, error) {
	q, err := parseQuery(r, further...)
	if err == nil && (q.Resource == "" || q.Name == "") {
		err = apierrors.NewBadRequest("parameters resource (plural, such as deployments) and name are required; group and namespace where the resource has them")
	}
	return q, err
}

// position is {sequence, time, last}: the store's own position, or the one that ?at= (a sequence, a time, how
// long ago) or ?time= names. Anybody who is authenticated may ask.
func (g *Gateway) position(r *http.Request) (any, error) {
	v := r.URL.Query()
	at := v.Get("at")
	if at == "" {
		at = v.Get("time")
	}
	last, err := g.settings.Log.Last(r.Context())
	if err != nil {
		return nil, apierrors.NewServiceUnavailable("the log cannot be reached: " + err.Error())
	}
	seq := g.settings.Store.Position()
	if past, ok := sequenceFrom(r.Context()); ok {
		seq = past
	}
	if at != "" {
		if seq, err = g.moment(r.Context(), at); err != nil {
			return nil, err
		}
	}
	out := map[string]any{"sequence": seq, "last": last}
	e, found, err := g.settings.Store.EventAt(seq)
	if err != nil {
		return nil, err
	}
	if found {
		out["time"] = when(e)
	}
	return out, nil
}

// logClients is {url, certificateAuthority}: how clients reach the log. Anybody who is authenticated may ask.
func (e *endpoints) logClients(*http.Request) (any, error) {
	if e.settings.LogClients == nil {
		return nil, refuse(http.StatusNotImplemented, metav1.StatusReason("ExternalLog"), "the log is on NATS servers that are not orlogd's own: their operator says who may read it, and how")
	}
	return e.settings.LogClients, nil
}

// digest is {sequence, digest} of the whole projection, for comparing replicas. It reads everything: only
// for those who have the path by RBAC.
func (e *endpoints) digest(r *http.Request) (any, error) {
	if err := e.mayAsk(r, "get", query{}); err != nil {
		return nil, err
	}
	digest, err := e.settings.Store.Digest()
	if err != nil {
		return nil, err
	}
	return map[string]any{"digest": digest}, nil
}

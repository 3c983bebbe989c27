package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// testNow is when the commands run that tests start.
var testNow = time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)

// recording is a gateway that answers from a file: entries in the order of their sequences, and objects as they
// were right after some of them ("now" for the present).
type recording struct {
	entries []entry
	objects map[string]json.RawMessage
	// stream, where given, serves /orlog/v1/events.
	stream http.HandlerFunc
	last   uint64
}

func (g *recording) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	moment, path := "now", r.URL.Path
	if rest, past := strings.CutPrefix(path, "/at/"); past {
		moment, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	switch {
	case g.discovery(w, path):
	case path == "/orlog/v1/history":
		g.answer(w, "entries", g.history(r, moment))
	case path == "/orlog/v1/why":
		g.answer(w, "chain", g.chain(r, moment))
	case path == "/orlog/v1/position":
		at := g.last
		if text := r.URL.Query().Get("at"); text != "" {
			at = 0
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				for _, e := range g.entries {
					if !e.Time.After(t) {
						at = e.Sequence
					}
				}
			} else if at, err = strconv.ParseUint(text, 10, 64); err != nil {
				refuse(w, http.StatusBadRequest, err.Error())
				return
			}
		}
		write(w, position{Sequence: at, Last: g.last})
	case path == "/orlog/v1/events" && g.stream != nil:
		g.stream(w, r)
	case strings.HasPrefix(path, "/api/v1/") || strings.HasPrefix(path, "/apis/"):
		if object, ok := g.objects[moment]; ok {
			write(w, object)
			return
		}
		refuse(w, http.StatusNotFound, "not found")
	default:
		refuse(w, http.StatusNotFound, "no such path: "+path)
	}
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	s := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Message: message}
	if code == http.StatusNotFound {
		s.Reason = metav1.StatusReasonNotFound
	}
	if err := json.NewEncoder(w).Encode(s); err != nil {
		panic(err)
	}
}

func (g *recording) answer(w http.ResponseWriter, name string, entries []entry) {
	if len(entries) == 0 {
		refuse(w, http.StatusNotFound, "the log has no event about this")
		return
	}
	write(w, map[string]any{name: entries})
}

func number(r *http.Request, name string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

func (g *recording) history(r *http.Request, moment string) []entry {
	q := r.URL.Query()
	from, to, limit := number(r, "from", 1), number(r, "to", 1<<62), number(r, "limit", 1000)
	if at, err := strconv.ParseUint(moment, 10, 64); err == nil {
		to = min(to, at)
	}
	var out []entry
	for _, e := range g.entries {
		k := e.key()
		if k.Group == q.Get("group") && k.Resource == q.Get("resource") && k.Namespace == q.Get("namespace") && k.Name == q.Get("name") && e.Sequence >= from && e.Sequence <= to {
			out = append(out, e)
		}
	}
	return out[max(0, len(out)-int(limit)):]
}

func (g *recording) chain(r *http.Request, moment string) []entry {
	start := number(r, "sequence", 0)
	if all := g.history(r, moment); start == 0 && len(all) > 0 {
		start = all[len(all)-1].Sequence
	}
	var out []entry
	for start != 0 {
		i := slices.IndexFunc(g.entries, func(e entry) bool { return e.Sequence == start })
		if i < 0 {
			break
		}
		out = append(out, g.entries[i])
		start = g.entries[i].Cause
	}
	return out
}

// discovery tells which resources there are.
func (g *recording) discovery(w http.ResponseWriter, path string) bool {
	list := func(version string, resources ...metav1.APIResource) {
		for i := range resources {
			resources[i].Verbs = metav1.Verbs{"get", "list"}
		}
		write(w, metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version, APIResources: resources})
	}
	switch path {
	case "/api":
		write(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}})
	case "/apis":
		v := metav1.GroupVersionForDiscovery{GroupVersion: "apps/v1", Version: "v1"}
		write(w, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
			Groups: []metav1.APIGroup{{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}}})
	case "/api/v1":
		list("v1", metav1.APIResource{Name: "pods", SingularName: "pod", Kind: "Pod", Namespaced: true, ShortNames: []string{"po"}},
			metav1.APIResource{Name: "secrets", SingularName: "secret", Kind: "Secret", Namespaced: true},
			metav1.APIResource{Name: "nodes", SingularName: "node", Kind: "Node"})
	case "/apis/apps/v1":
		list("apps/v1", metav1.APIResource{Name: "deployments", SingularName: "deployment", Kind: "Deployment", Namespaced: true, ShortNames: []string{"deploy"}},
			metav1.APIResource{Name: "replicasets", SingularName: "replicaset", Kind: "ReplicaSet", Namespaced: true, ShortNames: []string{"rs"}})
	case "/version":
		write(w, map[string]string{"major": "1", "minor": "36", "gitVersion": "v1.36.3+orlog"})
	default:
		return false
	}
	return true
}

// serve starts a gateway and returns a kubeconfig for it.
func serve(t *testing.T, g http.Handler) (kubeconfig string) {
	t.Helper()
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return kubeconfigFor(t, s.URL)
}

func kubeconfigFor(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"users":[{"name":"u","user":{}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type fatal struct {
	message string
	code    int
}

// orlog runs a command line as main does and returns all that it printed, an error's message included.
func orlog(t *testing.T, kubeconfig string, args ...string) (out string, code int) {
	t.Helper()
	streams, _, stdout, stderr := genericiooptions.NewTestIOStreams()
	args = append([]string{"orlog", "--kubeconfig", kubeconfig, "--cache-dir", filepath.Join(filepath.Dir(kubeconfig), "cache")}, args...)
	defer cmdutil.DefaultBehaviorOnFatal()
	cmdutil.BehaviorOnFatal(func(message string, code int) { panic(fatal{message, code}) })
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fatal)
			if !ok {
				panic(p)
			}
			out, code = stdout.String()+stderr.String(), f.code
			if f.message != "" {
				out += strings.TrimSuffix(f.message, "\n") + "\n"
			}
		}
	}()
	root, _ := newRoot(args, streams, func() time.Time { return testNow })
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetArgs(args[1:])
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmdutil.CheckErr(root.ExecuteContext(t.Context()))
	return stdout.String() + stderr.String(), 0
}

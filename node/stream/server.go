package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/orlog-io/orlog/node/runc"
)

// Runtime is what this package needs of *runc.Runtime.
type Runtime interface {
	Exec(ctx context.Context, sandboxID, containerID string, o runc.ExecOptions) (int, error)
	Attach(ctx context.Context, sandboxID, containerID string, o runc.AttachOptions) error
	Wait(ctx context.Context, sandboxID, containerID string) (runc.Status, error)
}

// Options are what the agent knows and this package does not.
type Options struct {
	Runtime Runtime
	// Lookup finds a container of a pod: the present one or the one before its last restart. An error that wraps
	// ErrNotFound becomes 404 and any other 400; its text is shown to the user. See ContainerID.
	Lookup func(namespace, pod, container string, previous bool) (sandboxID, containerID, logPath string, err error)
	// PodNetNS is the path of a pod's network namespace; empty: the pod uses the host's.
	PodNetNS func(namespace, pod string) (path string, err error)
	// Pods lists the node's pods for /pods; nil: none.
	Pods func() []v1.Pod
	// Healthy is asked by /healthz; nil: always.
	Healthy func() error
	Logger  *slog.Logger // nil: slog.Default
}

// ErrNotFound is wrapped by a lookup's error when there is no such pod or container on this node.
var ErrNotFound = errors.New("not found")

// idleTimeout closes a connection on which nothing has passed, as the kubelet does.
const idleTimeout = 4 * time.Hour

type server struct {
	Options
}

// New returns the handler. Where Options are incomplete it panics: that is a mistake in the program.
func New(o Options) http.Handler {
	if o.Runtime == nil || o.Lookup == nil || o.PodNetNS == nil {
		panic("stream: Options.Runtime, Lookup and PodNetNS are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &server{o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /pods", s.pods)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	for _, uid := range []string{"", "{uid}/"} {
		mux.HandleFunc("/exec/{namespace}/{pod}/"+uid+"{container}", s.exec)
		mux.HandleFunc("/attach/{namespace}/{pod}/"+uid+"{container}", s.attach)
	}
	mux.HandleFunc("/portForward/{namespace}/{pod}", s.portForward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", s.portForward)
	return mux
}

func (s *server) healthz(w http.ResponseWriter, r *http.Request) {
	if s.Healthy != nil {
		if err := s.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprint(w, "ok")
}

func (s *server) pods(w http.ResponseWriter, r *http.Request) {
	list := v1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []v1.Pod{}}
	if s.Pods != nil {
		list.Items = s.Pods()
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		s.Logger.Debug("answer /pods", "error", err) // the client has gone
	}
}

// lookup finds the container that a request names, or answers the request.
func (s *server) lookup(w http.ResponseWriter, r *http.Request, previous bool) (t target, ok bool) {
	t.sandbox, t.container, t.log, t.err = s.Lookup(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), previous)
	if t.err != nil {
		refuse(w, t.err)
		return t, false
	}
	return t, true
}

// target is a container that a lookup has found.
type target struct {
	sandbox, container, log string
	err                     error
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if errors.Is(err, ErrNotFound) {
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}

func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	opts, err := remotecommand.NewOptions(r)
	if err != nil {
		refuse(w, err)
		return
	}
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		refuse(w, errors.New("you must specify at least one command for the container"))
		return
	}
	t, ok := s.lookup(w, r, false)
	if !ok {
		return
	}
	w, r, done := untilHangup(w, r)
	defer done()
	remotecommand.ServeExec(w, r, session{s.Runtime, t}, r.PathValue("pod"), r.PathValue("uid"), t.container, command, opts,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	opts, err := remotecommand.NewOptions(r)
	if err != nil {
		refuse(w, err)
		return
	}
	t, ok := s.lookup(w, r, false)
	if !ok {
		return
	}
	w, r, done := untilHangup(w, r)
	defer done()
	remotecommand.ServeAttach(w, r, session{s.Runtime, t}, r.PathValue("pod"), r.PathValue("uid"), t.container, opts,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	opts, err := portforward.NewV4Options(r)
	if err != nil {
		refuse(w, err)
		return
	}
	netns, err := s.PodNetNS(r.PathValue("namespace"), r.PathValue("pod"))
	if err != nil {
		refuse(w, err)
		return
	}
	w, r, done := untilHangup(w, r)
	defer done()
	portforward.ServePortForward(w, r, forwarder{netns}, r.PathValue("pod"), r.PathValue("uid"), opts,
		idleTimeout, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// logOptions are the query of a logs request, named as in PodLogOptions.
type logOptions struct {
	follow, previous, timestamps bool
	since                        time.Time
	tail                         int64 // lines; -1: all
	limit                        int64 // bytes; -1: no limit
	stream                       string
}

const (
	streamAll    = "All"
	streamStdout = "Stdout"
	streamStderr = "Stderr"
)

func parseLogOptions(q url.Values, now time.Time) (logOptions, error) {
	o := logOptions{tail: -1, limit: -1, stream: streamAll}
	for name, into := range map[string]*bool{"follow": &o.follow, "previous": &o.previous, "timestamps": &o.timestamps} {
		if v := q.Get(name); v != "" {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return o, fmt.Errorf("%s: %q: want true or false", name, v)
			}
			*into = b
		}
	}
	if q.Get("tail") != "" && q.Get("tail") != "all" && q.Get("tailLines") == "" {
		q.Set("tailLines", q.Get("tail"))
	}
	seconds := int64(-1)
	for name, into := range map[string]*int64{"tailLines": &o.tail, "limitBytes": &o.limit, "sinceSeconds": &seconds} {
		if v := q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return o, fmt.Errorf("%s: %q: want a number, not negative", name, v)
			}
			*into = n
		}
	}
	if seconds >= 0 {
		o.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		if seconds >= 0 {
			return o, errors.New("at most one of sinceTime and sinceSeconds may be given")
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, fmt.Errorf("sinceTime: %q: want RFC 3339", v)
		}
		o.since = t
	}
	switch v := q.Get("stream"); v {
	case "":
	case streamAll, streamStdout, streamStderr:
		o.stream = v
	default:
		return o, fmt.Errorf("stream: %q: want All, Stdout or Stderr", v)
	}
	if o.stream != streamAll && o.tail >= 0 {
		return o, errors.New("tailLines and a single stream cannot be asked for together")
	}
	return o, nil
}

// containerLogs answers a logs request. What goes wrong after the first byte can only cut the answer short.
func (s *server) containerLogs(w http.ResponseWriter, r *http.Request) {
	o, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	t, ok := s.lookup(w, r, o.previous)
	if !ok {
		return
	}
	if _, err := os.Stat(t.log); err != nil {
		refuse(w, fmt.Errorf("log of container %q in pod %q is not there: %w", r.PathValue("container"), r.PathValue("pod"), errors.Unwrap(err)))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flusher{w: w, flush: http.NewResponseController(w).Flush}
	if o.follow {
		_ = out.flush() // the client sees that it is connected before the container speaks
	}
	err = readLog(ctx, t.log, o, out, s.ended(ctx, t, o.follow))
	if err != nil && ctx.Err() == nil {
		s.Logger.Warn("read container log", "path", t.log, "error", err)
	}
}

// ended returns a channel that is closed when the container will write no more.
func (s *server) ended(ctx context.Context, t target, follow bool) <-chan struct{} {
	ch := make(chan struct{})
	if !follow {
		close(ch)
		return ch
	}
	go func() {
		defer close(ch)
		// An error means that the container is no longer known, or that ctx has ended: over either way.
		_, _ = s.Runtime.Wait(ctx, t.sandbox, t.container)
	}()
	return ch
}

// flusher is a response that is sent on when the reader has nothing more to say for now.
type flusher struct {
	w     io.Writer
	flush func() error
	dirty bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.dirty = true
	return f.w.Write(p)
}

// Flush sends what was written since the last time.
func (f *flusher) Flush() error {
	if !f.dirty {
		return nil
	}
	f.dirty = false
	return f.flush()
}

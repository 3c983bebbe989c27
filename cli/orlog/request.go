package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
)

// requestFlags are the global flags that change a request on its way to the gateway.
type requestFlags struct {
	at     string // as the user typed it
	reason string
	moment string // what the gateway understands: a sequence or an RFC 3339 time; "" for now
}

func (r *requestFlags) addTo(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&r.at, "at", "", "Read the cluster as it was: a sequence (4711), a time (2026-11-20T14:05:00Z, 14:05, \"yesterday 14:05\") or how long ago (12m, 3h, 2d)")
	f.StringVar(&r.reason, "reason", "", "Why you make this change, in your words: kept with the event for ever")
}

func (r *requestFlags) resolve(now time.Time) error {
	if strings.ContainsAny(r.reason, "\r\n\x00") {
		return errors.New("--reason: say it in one line")
	}
	if r.at == "" {
		return nil
	}
	m, err := parseMoment(r.at, now)
	if err != nil {
		return fmt.Errorf("--at: %w", err)
	}
	r.moment = m
	return nil
}

// wrap puts the flags' effect into a client's transport. It reads them when a request is made: kubectl
// builds its configuration before the flags are parsed.
func (r *requestFlags) wrap(c *rest.Config) *rest.Config {
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &requestTripper{flags: r, next: next} })
	return c
}

type requestTripper struct {
	flags *requestFlags
	next  http.RoundTripper
}

func (t *requestTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.flags.moment == "" && t.flags.reason == "" {
		return t.next.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	if t.flags.reason != "" {
		req.Header.Set("Orlog-Reason", t.flags.reason)
	}
	if t.flags.moment != "" && !isTimeless(req.URL.Path) {
		req.URL.Path = "/at/" + t.flags.moment + req.URL.Path
		req.URL.RawPath = ""
	}
	return t.next.RoundTrip(req)
}

// isTimeless reports whether a path is not to be moved into the past: what the API looks like is the same at
// every moment, and kubectl caches it by URL; the log itself has no moment; and one move is enough.
func isTimeless(path string) bool {
	seg := strings.Split(strings.Trim(path, "/"), "/")
	switch seg[0] {
	case "api":
		return len(seg) <= 2
	case "apis":
		return len(seg) <= 3
	case "orlog":
		return len(seg) != 3 || seg[2] != "history" && seg[2] != "why"
	}
	return true // openapi, version, healthz, at: no objects of a moment
}

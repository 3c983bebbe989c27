package events

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
)

func TestLogAttrs(t *testing.T) {
	key := Key{Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web"}
	e := Event{Sequence: 9, Subject: Subject{Key: key}, Type: "io.orlog.deployment.scaled", Cause: 7, Correlation: 3, TraceParent: "00-t-s-01"}
	for name, c := range map[string]struct {
		attr slog.Attr
		want string
	}{
		"event":     {e.LogAttrs(), `{"object":"apps/deployments/shop/web","sequence":9,"type":"io.orlog.deployment.scaled","cause":7,"correlation":3,"traceparent":"00-t-s-01"}`},
		"new event": {Event{Subject: e.Subject, Type: e.Type}.LogAttrs(), `{"object":"apps/deployments/shop/web","type":"io.orlog.deployment.scaled"}`},
		"decision":  {CauseOf(e).LogAttrs(key), `{"object":"apps/deployments/shop/web","cause":9,"correlation":3,"traceparent":"00-t-s-01"}`},
	} {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", c.attr)
		var got, want map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		for _, own := range []string{"time", "level", "msg"} {
			delete(got, own)
		}
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if !bytes.Equal(g, w) {
			t.Errorf("%s: %s, want %s", name, g, w)
		}
	}
}

func TestTraceFollowsTheCause(t *testing.T) {
	first := Event{Sequence: 4, TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	if got, want := CauseOf(first), (Cause{Sequence: 4, Correlation: 4, TraceParent: first.TraceParent}); got != want {
		t.Errorf("cause %+v, want %+v", got, want)
	}
}

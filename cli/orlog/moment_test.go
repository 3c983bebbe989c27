package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"4711":                 "4711",
		"12m":                  "2026-11-21T10:18:00Z",
		"12m ago":              "2026-11-21T10:18:00Z",
		"2d12h":                "2026-11-18T22:30:00Z",
		"1d":                   "2026-11-20T10:30:00Z",
		"09:15":                "2026-11-21T09:15:00Z",
		"today 09:15:30":       "2026-11-21T09:15:30Z",
		"yesterday 14:05":      "2026-11-20T14:05:00Z",
		"2026-11-20T14:05:00Z": "2026-11-20T14:05:00Z",
		"2026-11-20 14:05":     "2026-11-20T14:05:00Z",
		"2026-11-20":           "2026-11-20T00:00:00Z",
	} {
		if got, err := parseMoment(in, now); err != nil || got != want {
			t.Errorf("parseMoment(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"soon", "", "12x", "2027-01-01", "23:00", "yesterday"} {
		if got, err := parseMoment(in, now); err == nil {
			t.Errorf("parseMoment(%q) = %q, want an error", in, got)
		}
	}
}

func TestWhatIsTheSameAtEveryMoment(t *testing.T) {
	for path, want := range map[string]bool{
		"/api": true, "/api/v1": true, "/apis": true, "/apis/apps/v1": true, "/openapi/v3": true, "/version": true,
		"/orlog/v1/position": true, "/orlog/v1/events": true, "/at/7/api/v1/pods": true,
		"/api/v1/pods": false, "/api/v1/namespaces/a/pods/b": false, "/apis/apps/v1/deployments": false,
		"/orlog/v1/history": false, "/orlog/v1/why": false,
	} {
		if got := isTimeless(path); got != want {
			t.Errorf("isTimeless(%q) = %v, want %v", path, got, want)
		}
	}
}

func TestParsePast(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)
	if seq, at, err := parsePast("--since", "4711", now); seq != 4711 || !at.IsZero() || err != nil {
		t.Errorf("a sequence: %d %v %v", seq, at, err)
	}
	if seq, at, err := parsePast("--since", "30m", now); seq != 0 || !at.Equal(now.Add(-30*time.Minute)) || err != nil {
		t.Errorf("a time: %d %v %v", seq, at, err)
	}
	if _, _, err := parsePast("--since", "soon", now); err == nil || !strings.Contains(err.Error(), "--since") {
		t.Errorf("nonsense: %v", err)
	}
}

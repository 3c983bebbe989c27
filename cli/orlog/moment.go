package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var agoPattern = regexp.MustCompile(`^(?:(\d+)d)?((?:\d+(?:\.\d+)?(?:h|ms|m|s))*)$`)

// parseMoment reads what a person types for a moment in the past and returns what the gateway understands:
// a sequence as it is, or an RFC 3339 time in UTC. now is the reader's clock; times without a zone are in
// now's location.
func parseMoment(s string, now time.Time) (string, error) {
	text := strings.TrimSpace(s)
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		return text, nil
	}
	t, err := parseTime(text, now)
	if err != nil {
		return "", err
	}
	if t.After(now) {
		return "", fmt.Errorf("%q is in the future: give a past moment", s)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// parsePast reads a moment that a flag bounds something by: a sequence, or a time.
func parsePast(flag, text string, now time.Time) (sequence uint64, at time.Time, err error) {
	m, err := parseMoment(text, now)
	if err != nil {
		return 0, at, fmt.Errorf("%s: %w", flag, err)
	}
	if sequence, err = strconv.ParseUint(m, 10, 64); err == nil {
		return sequence, at, nil
	}
	at, err = time.Parse(time.RFC3339Nano, m)
	return 0, at, err
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if d, ok := parseAgo(text); ok {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	day, clock := now, text
	if rest, ok := strings.CutPrefix(text, "yesterday"); ok {
		day, clock = now.AddDate(0, 0, -1), strings.TrimSpace(rest)
	} else if rest, ok := strings.CutPrefix(text, "today"); ok {
		clock = strings.TrimSpace(rest)
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if c, err := time.Parse(layout, clock); err == nil {
			return time.Date(day.Year(), day.Month(), day.Day(), c.Hour(), c.Minute(), c.Second(), 0, now.Location()), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no moment: give a sequence (4711), a time (2026-11-20T14:05:00Z, 14:05, \"yesterday 14:05\") or how long ago (12m, 3h, 2d)", text)
}

// parseAgo reads a duration such as 90s, 12m, 1h30m or 2d12h.
func parseAgo(text string) (time.Duration, bool) {
	text = strings.TrimSuffix(text, " ago")
	m := agoPattern.FindStringSubmatch(text)
	if m == nil || text == "" {
		return 0, false
	}
	var d time.Duration
	if m[1] != "" {
		days, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, false
		}
		d = time.Duration(days) * 24 * time.Hour
	}
	if m[2] != "" {
		rest, err := time.ParseDuration(m[2])
		if err != nil {
			return 0, false
		}
		d += rest
	}
	return d, true
}

package stream

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// record is a sink that tells when it has been flushed.
type record struct {
	bytes.Buffer
	flushed chan string
}

func (r *record) Flush() error {
	if r.flushed != nil {
		r.flushed <- r.String()
	}
	return nil
}

func closed() <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}

// line is a log line n seconds into the test's day.
func line(n int, stream, tag, content string) string {
	at := time.Date(2026, 11, 21, 10, 0, n, 0, time.UTC)
	return fmt.Sprintf("%s %s %s %s\n", at.Format(logTime), stream, tag, content)
}

func writeLog(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	writeLog(t, path+".20261121-100001.000000000", line(0, "stdout", "F", "zero"), line(1, "stderr", "F", "one"))
	writeLog(t, path+".20261121-100003.000000000", line(2, "stdout", "P", "tw"), line(3, "stdout", "F", "o"))
	writeLog(t, path, line(4, "stdout", "F", ""), "not a log line\n", line(5, "stderr", "F", "five"), line(6, "stdout", "P", "half"))
	writeLog(t, path+".notrotated", line(7, "stdout", "F", "other file"))
	for _, tc := range []struct{ query, want string }{
		{"", "zero\none\ntwo\n\nfive\nhalf"},
		{"tailLines=0", ""},
		{"tailLines=1", "half"},
		{"tailLines=2", "five\nhalf"},
		{"tailLines=4", "two\n\nfive\nhalf"},
		{"tailLines=5", "one\ntwo\n\nfive\nhalf"},
		{"tailLines=99", "zero\none\ntwo\n\nfive\nhalf"},
		{"tail=all", "zero\none\ntwo\n\nfive\nhalf"},
		{"limitBytes=7", "zero\non"},
		{"limitBytes=0", ""},
		{"limitBytes=5", "zero\n"},
		{"sinceTime=2026-11-21T10:00:05Z", "five\nhalf"},
		{"sinceSeconds=6", "\nfive\nhalf"},
		{"stream=Stderr", "one\nfive\n"},
		{"stream=Stdout", "zero\ntwo\n\nhalf"},
		{"tailLines=2&timestamps=true", "2026-11-21T10:00:05.000000000Z five\n2026-11-21T10:00:06.000000000Z half"},
		{"tailLines=4&timestamps=true&limitBytes=34", "2026-11-21T10:00:02.000000000Z two"},
	} {
		q, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseLogOptions(q, time.Date(2026, 11, 21, 10, 0, 10, 0, time.UTC))
		if err != nil {
			t.Errorf("%s: %v", tc.query, err)
			continue
		}
		var got record
		if err := readLog(context.Background(), path, o, &got, closed()); err != nil {
			t.Errorf("%s: %v", tc.query, err)
		}
		if got.String() != tc.want {
			t.Errorf("%s: %q, want %q", tc.query, got.String(), tc.want)
		}
	}
}

func TestLogOptionsRefused(t *testing.T) {
	for _, query := range []string{"tailLines=-1", "limitBytes=x", "follow=maybe", "sinceTime=noon",
		"sinceTime=2026-11-21T10:00:05Z&sinceSeconds=1", "stream=Both", "stream=Stdout&tailLines=1"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseLogOptions(q, time.Now()); err == nil {
			t.Errorf("%s: accepted", query)
		}
	}
}

// Lines longer than every buffer come out whole and count as one.
func TestLongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	long := strings.Repeat("x", 300_000)
	writeLog(t, path, line(0, "stdout", "F", "first"), line(1, "stdout", "F", long), line(2, "stdout", "F", "last"))
	var got record
	if err := readLog(context.Background(), path, logOptions{tail: 2, limit: -1}, &got, closed()); err != nil {
		t.Fatal(err)
	}
	if got.String() != long+"\nlast\n" {
		t.Errorf("%d bytes", got.Len())
	}
}

// A follower goes from file to file as the log is rotated, loses nothing and ends with the container.
func TestFollowThroughRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	writeLog(t, path, line(0, "stdout", "F", "a"))
	out := &record{flushed: make(chan string)}
	ended := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- readLog(context.Background(), path, logOptions{tail: -1, limit: -1, follow: true}, out, ended)
	}()
	expect := func(want string) {
		t.Helper()
		for got := range out.flushed {
			if got == want {
				return
			}
			if len(got) > len(want) {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	}
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	expect("a\n")
	whole := line(1, "stdout", "F", "b")
	add(whole[:20]) // a line seen half-written
	add(whole[20:])
	expect("a\nb\n")
	for i, name := range []string{"c", "d", "e"} {
		if err := os.Rename(path, fmt.Sprintf("%s.20261121-10000%d.000000000", path, i)); err != nil {
			t.Fatal(err)
		}
		add(line(2+i, "stdout", "F", name))
	}
	expect("a\nb\nc\nd\ne\n")
	close(ended)
	go func() {
		for range out.flushed {
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	close(out.flushed)
	if out.String() != "a\nb\nc\nd\ne\n" {
		t.Errorf("%q", out.String())
	}
}

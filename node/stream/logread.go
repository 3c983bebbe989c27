package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/orlog-io/orlog/node/shim"
)

// logTime is how times stand before lines, as the kubelet has it.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// errLimit says that as many bytes as were asked for have been written.
var errLimit = errors.New("limit reached")

// sink is where a log goes.
type sink interface {
	io.Writer
	Flush() error
}

// readLog copies a container's log, rotated files first, to w. Until ended is closed it waits at the end for more;
// what is there then is still copied.
func readLog(ctx context.Context, path string, o logOptions, w sink, ended <-chan struct{}) error {
	at, err := startOf(path, o.tail)
	if err != nil {
		return err
	}
	r := &logReader{path: path, f: at, buf: bufio.NewReaderSize(at, 64<<10), out: lineWriter{o: o, w: w, remain: o.limit}}
	defer func() { r.f.Close() }()
	if o.limit == 0 {
		return nil
	}
	changes, stop, err := r.watch(o.follow)
	if err != nil {
		return err
	}
	defer stop()
	err = r.follow(ctx, changes, ended)
	if errors.Is(err, errLimit) {
		err = nil
	}
	return err
}

// logReader reads one log across its files.
type logReader struct {
	path string
	f    *os.File
	buf  *bufio.Reader
	part []byte // of a line that is still being written
	out  lineWriter
}

// watch reports changes in the log's folder. Without follow there is nothing to wait for.
func (r *logReader) watch(follow bool) (<-chan struct{}, func(), error) {
	if !follow {
		return nil, func() {}, nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, fmt.Errorf("watch the log: %w", err)
	}
	if err := w.Add(filepath.Dir(r.path)); err != nil {
		w.Close()
		return nil, nil, fmt.Errorf("watch the log: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
			case <-w.Errors: //nolint:errcheck // more changes than the kernel could list: a change all the same
			}
			select {
			case changes <- struct{}{}:
			default: // one that waits stands for all
			}
		}
	}()
	return changes, func() { w.Close() }, nil
}

func (r *logReader) follow(ctx context.Context, changes, ended <-chan struct{}) error {
	last := false // nothing will be added any more: read what is there and be done
	for {
		if err := r.drain(); err != nil {
			return err
		}
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if err := r.out.w.Flush(); err != nil {
			return err
		}
		if last {
			return r.out.end()
		}
		select {
		case _, ok := <-changes:
			if !ok {
				return errors.New("the watch of the log ended")
			}
		case <-ended:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain copies what the present file holds.
func (r *logReader) drain() error {
	for {
		line, err := r.buf.ReadSlice('\n')
		if len(r.part) > 0 || err != nil {
			r.part = append(r.part, line...)
			line = r.part
		}
		switch {
		case err == nil:
			r.part = r.part[:0]
			if err := r.out.line(line); err != nil {
				return err
			}
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("read log: %w", err)
		}
	}
}

// next moves on to the file that was begun after the present one, if there is one. The present one is read once
// more first: it may have grown before it was moved aside.
func (r *logReader) next() (bool, error) {
	for range 10 {
		path, err := successor(r.path, r.f)
		if err != nil || path == "" {
			return false, err
		}
		if err := r.drain(); err != nil {
			return false, err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated between the look and the opening
		}
		if err != nil {
			return false, fmt.Errorf("read log: %w", err)
		}
		r.f.Close()
		r.f, r.part = f, r.part[:0]
		r.buf.Reset(f)
		return true, nil
	}
	return false, nil
}

// successor finds the file that follows f among the rotated files and the current one; "" where f is the newest.
func successor(path string, f *os.File) (string, error) {
	mine, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	if now, err := os.Stat(path); err == nil && os.SameFile(now, mine) {
		return "", nil // the common case, without a look at the folder
	}
	files := append(shim.RotatedLogs(path), path)
	for i, name := range files {
		st, err := os.Stat(name)
		if err == nil && os.SameFile(st, mine) {
			if i+1 < len(files) {
				return files[i+1], nil
			}
			return "", nil
		}
	}
	// Ours has been removed, so all that is left is newer; or the new current file has not been made yet.
	if _, err := os.Stat(files[0]); err != nil {
		return "", nil //nolint:nilerr // none yet
	}
	return files[0], nil
}

// lineWriter turns CRI log lines into what was asked for.
type lineWriter struct {
	o       logOptions
	w       sink
	remain  int64
	partial bool // the line before was a part: this one goes on with it
}

// line writes one log line, "<time> <stream> <tag> <content>\n". A line that is none is passed over.
func (l *lineWriter) line(raw []byte) error {
	at, stream, tag, content, ok := parseLine(raw)
	if !ok || at.Before(l.o.since) ||
		l.o.stream == streamStdout && stream != "stdout" || l.o.stream == streamStderr && stream != "stderr" {
		return nil
	}
	var out []byte
	if l.o.timestamps && !l.partial {
		out = append(at.AppendFormat(out, logTime), ' ')
	}
	out = append(out, content...)
	if l.partial = tag == 'P'; !l.partial {
		out = append(out, '\n')
	}
	limited := l.o.limit >= 0
	if limited && int64(len(out)) > l.remain {
		out = out[:l.remain]
	}
	n, err := l.w.Write(out)
	if err != nil {
		return err
	}
	if l.remain -= int64(n); limited && l.remain <= 0 {
		return errors.Join(errLimit, l.w.Flush())
	}
	return nil
}

func (l *lineWriter) end() error { return l.w.Flush() }

func parseLine(raw []byte) (at time.Time, stream string, tag byte, content []byte, ok bool) {
	when, rest, ok1 := bytes.Cut(raw, []byte(" "))
	name, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, content, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 || len(tags) == 0 {
		return at, "", 0, nil, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(when))
	if err != nil {
		return at, "", 0, nil, false
	}
	return at, string(name), tags[0], bytes.TrimSuffix(content, []byte("\n")), true
}

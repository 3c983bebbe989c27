package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// MaxLogLine is the longest piece of output in one line of a log, in bytes: longer lines are cut into parts.
const MaxLogLine = 16 << 10

// rotatedLayout names a rotated file, after the log's own name and a dot; it sorts in the order of time.
const rotatedLayout = "20060102-150405.000000000"

// logTime is RFC 3339 with all nine digits, as the CRI log format has it.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// logFile writes a container's output as CRI log lines: "<time> <stream> <F or P> <bytes>\n". Its user
// holds scratch's lock around every call. Output is never held back by a log that cannot be written: it is dropped and counted.
type logFile struct {
	path    string
	max     int64
	files   int
	f       *os.File
	size    int64
	dropped int64
}

// flushSize bounds the lines that wait in memory, in bytes.
const flushSize = 64 << 10

func openLog(path string, maxSize int64, files int) (*logFile, error) {
	l := &logFile{path: path, max: maxSize, files: max(files, 1)}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the log's folder: %w", err)
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.f, l.size = f, st.Size()
	return nil
}

// line appends one line made of two pieces to what flush will write.
func (l *logFile) line(now []byte, stream string, tag byte, a, b []byte) {
	if l.path == "" {
		return
	}
	out := append(scratch.out, now...)
	out = append(out, ' ')
	out = append(out, stream...)
	out = append(out, ' ', tag, ' ')
	out = append(out, a...)
	out = append(out, b...)
	scratch.out = append(out, '\n')
	if len(scratch.out) >= flushSize {
		l.flush()
	}
}

// flush writes the lines that wait, then rotates where the file has grown too large.
func (l *logFile) flush() {
	if len(scratch.out) == 0 {
		return
	}
	defer func() { scratch.out = scratch.out[:0] }()
	if l.f == nil {
		// An earlier rotation could not open the new file; perhaps it can be now.
		if err := l.open(); err != nil {
			l.dropped += int64(len(scratch.out))
			return
		}
	}
	n, err := l.f.Write(scratch.out)
	l.size += int64(n)
	if err != nil {
		l.dropped += int64(len(scratch.out) - n)
		return
	}
	if l.max > 0 && l.size >= l.max {
		l.rotate(time.Now())
	}
}

// rotate moves the file aside and begins a new one. Where that fails the old one goes on growing: a log too
// long is better than none.
func (l *logFile) rotate(now time.Time) {
	if l.files > 1 {
		if err := os.Rename(l.path, l.path+"."+now.UTC().Format(rotatedLayout)); err != nil {
			return
		}
	} else if err := os.Remove(l.path); err != nil {
		return
	}
	l.f.Close()
	l.f = nil
	l.prune() // before the new file is there: never are there more than were asked for
	if err := l.open(); err != nil {
		l.size = 0 // flush tries again and counts what is lost meanwhile
	}
}

// prune removes the oldest rotated files. What cannot be removed the next rotation tries again.
func (l *logFile) prune() {
	old := RotatedLogs(l.path)
	for len(old) > l.files-1 {
		if err := os.Remove(old[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return
		}
		old = old[1:]
	}
}

func (l *logFile) close() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// RotatedLogs lists the rotated files of the log at path, oldest first, the current one not included.
func RotatedLogs(path string) []string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	prefix := filepath.Base(path) + "."
	var found []string
	for _, e := range entries {
		if suffix, ok := strings.CutPrefix(e.Name(), prefix); ok && len(suffix) == len(rotatedLayout) {
			found = append(found, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	sort.Strings(found)
	return found
}

// lines cuts a stream of bytes into log lines.
type lines struct {
	stream  string
	partial []byte // the beginning of a line, shorter than MaxLogLine
}

// write appends data to the log: whole lines as F, pieces of overlong ones as P; a rest waits for its end.
func (s *lines) write(l *logFile, now []byte, data []byte) {
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		room := MaxLogLine - len(s.partial)
		switch {
		case i >= 0 && i <= room:
			l.line(now, s.stream, 'F', s.partial, data[:i])
			s.partial, data = s.partial[:0], data[i+1:]
		case len(data) >= room:
			l.line(now, s.stream, 'P', s.partial, data[:room])
			s.partial, data = s.partial[:0], data[room:]
		default:
			s.partial, data = append(s.partial, data...), nil
		}
	}
	if len(s.partial) == 0 {
		s.partial = nil // a quiet container holds no memory
	}
}

// end writes what is left when the stream has ended: a line that was never finished is a part.
func (s *lines) end(l *logFile, now []byte) {
	if len(s.partial) > 0 {
		l.line(now, s.stream, 'P', s.partial, nil)
		s.partial = nil
	}
}

package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/orlog-io/orlog/node/shim"
)

// startOf opens the file with which a reading of the log begins, at the right place: the oldest file, or the one
// that holds the first of the last tail lines. Parts of an overlong line count as the one line they are.
func startOf(path string, tail int64) (*os.File, error) {
	for range 10 {
		f, err := tryStart(append(shim.RotatedLogs(path), path), tail)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated under our eyes
		}
		if err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
		return f, nil
	}
	return nil, fmt.Errorf("read log: %s: %w", path, fs.ErrNotExist)
}

func tryStart(files []string, tail int64) (*os.File, error) {
	if tail < 0 {
		return os.Open(files[0])
	}
	count := counter{want: tail}
	for i := len(files) - 1; ; i-- {
		f, err := os.Open(files[i])
		if err != nil {
			return nil, err
		}
		offset, found, err := count.back(f)
		if err == nil && (found || i == 0) {
			_, err = f.Seek(offset, io.SeekStart)
			if err == nil {
				return f, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// counter counts log lines from the end.
type counter struct {
	want int64
	seen int64 // lines whose end has been met
	open bool  // anything has been met at all
}

// back walks a file backwards by lines and returns the offset at which the wanted lines begin; where the file has
// too few of them, found is false and the walk goes on with the file before.
func (c *counter) back(f *os.File) (offset int64, found bool, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, err
	}
	if c.want == 0 {
		return end, true, nil
	}
	const block = 64 << 10
	var held []byte // from the place walked back to, up to the last line begun
	for at := end; ; {
		nl := bytes.LastIndexByte(trimEnd(held), '\n')
		if nl < 0 && at > 0 {
			n := min(at, block)
			more := make([]byte, n, int(n)+len(held))
			if _, err := f.ReadAt(more, at-n); err != nil && !errors.Is(err, io.EOF) {
				return 0, false, err
			}
			held, at = append(more, held...), at-n
			continue
		}
		line := held[nl+1:]
		if len(line) == 0 {
			return 0, false, nil // the beginning of the file
		}
		if c.ends(line) && c.seen > c.want {
			return at + int64(len(held)), true, nil
		}
		held = held[:nl+1]
	}
}

// ends notes a line, walked back over, and says whether it closes a line of the container.
func (c *counter) ends(line []byte) bool {
	_, _, tag, _, ok := parseLine(line)
	first := !c.open
	c.open = true
	if first || ok && tag != 'P' {
		c.seen++ // the very last one counts, finished or not
		return true
	}
	return false
}

func trimEnd(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\n")) }

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/probe"
)

// runHook runs a lifecycle handler until it ends or ctx does.
func runHook(ctx context.Context, h *v1.LifecycleHandler, at probe.Place) error {
	switch {
	case h.Exec != nil:
		code, output, err := at.Exec(ctx, h.Exec.Command)
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), code, output)
		}
		return nil
	case h.HTTPGet != nil:
		_, err := probe.HTTPGet(ctx, h.HTTPGet, at)
		return err
	case h.Sleep != nil:
		if !sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second) {
			return ctx.Err()
		}
		return nil
	case h.TCPSocket != nil:
		return nil // kept by the API for old manifests; it never did anything
	}
	return errors.New("lifecycle handler: set exec, httpGet or sleep")
}

const (
	messageLimit  = 4096
	fallbackLimit = 2048
	fallbackLines = 80
)

// terminationMessage is what an attempt left in its message file, or, where the policy says so and it failed, the
// end of its log.
func terminationMessage(c *v1.Container, path, logPath string, failed bool) (string, error) {
	if c.TerminationMessagePath == "" {
		return "", nil
	}
	b, err := readTail(path, messageLimit)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if len(b) > 0 || !failed || c.TerminationMessagePolicy != v1.TerminationMessageFallbackToLogsOnError {
		return string(b), nil
	}
	b, err = readTail(logPath, 16*fallbackLimit)
	if err != nil {
		return "", err
	}
	return fallback(b), nil
}

// fallback is the end of a log in CRI format, without its bookkeeping.
func fallback(log []byte) string {
	var text []byte
	for _, line := range bytes.SplitAfter(log, []byte("\n")) {
		f := bytes.SplitN(line, []byte(" "), 4) // time, stream, tags, content
		if len(f) < 4 {
			continue
		}
		content := f[3]
		if string(f[2]) == "P" {
			content = bytes.TrimSuffix(content, []byte("\n")) // the line goes on
		}
		text = append(text, content...)
	}
	if len(text) > fallbackLimit {
		text = text[len(text)-fallbackLimit:]
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if n := len(lines); n > 0 && len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	if len(lines) > fallbackLines {
		lines = lines[len(lines)-fallbackLines:]
	}
	return string(bytes.Join(lines, nil))
}

// readTail reads the last bytes of a file.
func readTail(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
)

// maxEventLine bounds one line of the stream: the largest event (4 MiB) and its envelope.
const maxEventLine = 8 << 20

// events reads the event stream that a query asks for, a CloudEvent in JSON a line, until it ends or fails.
func (a *apiClient) events(ctx context.Context, q url.Values, each func(line []byte) error) error {
	body, err := a.get(ctx, "/orlog/v1/events", q)
	if err != nil {
		return err
	}
	defer body.Close()
	return eachLine(body, each)
}

// eachLine hands on the stream's lines until it ends.
func eachLine(r io.Reader, each func(line []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEventLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return nil
}

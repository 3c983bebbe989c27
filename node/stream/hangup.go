package stream

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
)

// untilHangup gives a request that will be upgraded a context that ends when its client hangs up. net/http does
// not do so once a connection has been taken over, and a process started for a client would outlive it.
func untilHangup(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	return &hangupWriter{w, cancel}, r.WithContext(ctx), cancel
}

// hangupWriter hands out its connection in a wrapper that notices the end of reading.
type hangupWriter struct {
	http.ResponseWriter
	cancel context.CancelFunc
}

// Unwrap is for http.ResponseController.
func (w *hangupWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is http.Flusher.
func (w *hangupWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack is http.Hijacker.
func (w *hangupWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("the connection cannot be upgraded")
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early := make([]byte, rw.Reader.Buffered())
	if _, err := rw.Reader.Read(early); err != nil && len(early) > 0 {
		conn.Close()
		return nil, nil, err
	}
	wrapped := &hangupConn{Conn: conn, cancel: w.cancel}
	// Bytes that were read with the request come first from the new buffer, as they would have from the old.
	reader := bufio.NewReaderSize(&earlyReader{early, wrapped}, max(len(early), 4096))
	if len(early) > 0 {
		if _, err := reader.Peek(len(early)); err != nil {
			conn.Close()
			return nil, nil, err
		}
	}
	return wrapped, bufio.NewReadWriter(reader, bufio.NewWriter(wrapped)), nil
}

type earlyReader struct {
	early []byte
	conn  net.Conn
}

func (r *earlyReader) Read(p []byte) (int, error) {
	if len(r.early) > 0 {
		n := copy(p, r.early)
		r.early = r.early[n:]
		return n, nil
	}
	return r.conn.Read(p)
}

type hangupConn struct {
	net.Conn
	cancel context.CancelFunc
}

func (c *hangupConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.cancel()
	}
	return n, err
}

func (c *hangupConn) Close() error {
	c.cancel()
	return c.Conn.Close()
}

package gateway

import (
	"io"
	"net/http"
)

// endingApart is a transport whose answers say that they are over only when there is nothing left to give. Upstream
// throws away what comes together with the end where it passes on a container's log by WebSocket; an answer of a node,
// which is often one packet, would mostly be lost as a whole.
type endingApart struct{ to http.RoundTripper }

// WrappedRoundTripper shows upstream, which looks for the dialler of connections that it upgrades, what is inside.
func (t endingApart) WrappedRoundTripper() http.RoundTripper { return t.to }

// RoundTrip implements http.RoundTripper.
func (t endingApart) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.to.RoundTrip(r)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols { // there the body is the connection
		resp.Body = &endedApart{ReadCloser: resp.Body}
	}
	return resp, err
}

type endedApart struct {
	io.ReadCloser
	end error // what came with the last bytes
}

// Read implements io.Reader; it returns either bytes or an error.
func (b *endedApart) Read(p []byte) (int, error) {
	if b.end != nil {
		return 0, b.end
	}
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.end, err = err, nil
	}
	return n, err
}

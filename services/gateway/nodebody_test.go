package gateway

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"k8s.io/client-go/rest"
)

// testLogsOverWebSocket reads a log that comes in one piece together with its end, again and again.
func testLogsOverWebSocket(t *testing.T, config *rest.Config, path, want string) {
	for range 10 {
		if got, err := overWebSocket(config, path); err != nil || got != want {
			t.Fatalf("%s over WebSocket: %q, %v", path, got, err)
		}
	}
}

// overWebSocket is what a server sends by the protocol binary.k8s.io until it closes; its messages must be short.
func overWebSocket(config *rest.Config, path string) (string, error) {
	to, err := url.Parse(config.Host)
	if err != nil {
		return "", err
	}
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return "", err
	}
	secure.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", to.Host, secure)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://localhost\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary.k8s.io\r\n\r\n", path, to.Host)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return "", fmt.Errorf("answered %s", resp.Status)
	}
	var out strings.Builder
	for {
		var head [2]byte // what the message is, and how long
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return out.String(), err
		}
		if head[0] == 0x88 { // the end
			return out.String(), nil
		}
		if _, err := io.CopyN(&out, in, int64(head[1])); err != nil {
			return out.String(), err
		}
	}
}

func TestEndComesApart(t *testing.T) {
	body := &endedApart{ReadCloser: io.NopCloser(iotest.DataErrReader(strings.NewReader("all of it")))}
	b := make([]byte, 100)
	if n, err := body.Read(b); string(b[:n]) != "all of it" || err != nil {
		t.Errorf("first %q, %v", b[:n], err)
	}
	for range 2 {
		if n, err := body.Read(b); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("then %q, %v", b[:n], err)
		}
	}
}

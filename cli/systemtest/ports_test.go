//go:build system

package systemtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNoPortWithoutTLS looks at every port that orlogd and the agent listen on, as the kernel tells: from beyond
// loopback each speaks TLS and nothing else.
func TestNoPortWithoutTLS(t *testing.T) {
	outside := 0
	for _, p := range []*process{the.orlogd, the.agent} {
		for _, addr := range listeners(t, p.cmd.Process.Pid) {
			t.Logf("%s listens on %s", p.name, addr)
			if addr.IP.IsLoopback() {
				continue
			}
			// DNS is for the pods, at an address of the pods' bridge alone, and has no TLS in Kubernetes either.
			if addr.Port == 53 && !addr.IP.IsUnspecified() {
				continue
			}
			outside++
			if err := speaksTLSOnly(fmt.Sprintf("198.51.100.1:%d", addr.Port)); err != nil {
				t.Errorf("%s, %s: %v", p.name, addr, err)
			}
		}
	}
	if outside < 2 {
		t.Errorf("%d ports can be reached from elsewhere: the API's and the log's should be", outside)
	}
}

// speaksTLSOnly checks that a port takes a TLS handshake, in the way of HTTPS or of NATS, and gives nothing to who
// does without.
func speaksTLSOnly(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := dialInside(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	// NATS greets, and then demands TLS; others wait for the client.
	greeting := make([]byte, 16<<10)
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	n, err := conn.Read(greeting)
	var timeout net.Error
	if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		return fmt.Errorf("greeting: %w", err)
	}
	if n > 0 && !strings.Contains(string(greeting[:n]), `"tls_required":true`) {
		return fmt.Errorf("it greets without TLS: %q", greeting[:n])
	}
	if err := conn.SetReadDeadline(end); err != nil {
		return err
	}
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("it takes no TLS handshake: %w", err)
	}

	plain, err := dialInside(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer plain.Close()
	if err := plain.SetDeadline(end); err != nil {
		return err
	}
	if _, err := io.WriteString(plain, "GET /version HTTP/1.0\r\n\r\nCONNECT {\"verbose\":true}\r\nPING\r\n"); err != nil {
		return nil // refused as it came
	}
	said, err := io.ReadAll(plain)
	if err != nil && len(said) == 0 {
		return nil
	}
	if text := string(said); strings.Contains(text, "200 OK") || strings.Contains(text, "PONG") || strings.Contains(text, "+OK") {
		return fmt.Errorf("without TLS it answers %q", text)
	}
	return nil
}

// listeners are the TCP addresses that a process listens on.
func listeners(t *testing.T, pid int) []*net.TCPAddr {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var out []*net.TCPAddr
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own[f[9]] {
				continue
			}
			out = append(out, kernelAddress(t, f[1]))
		}
	}
	if len(out) == 0 && pid == the.orlogd.cmd.Process.Pid {
		t.Fatalf("process %d listens on nothing: is the table read rightly?", pid)
	}
	return out
}

// kernelAddress reads an address of /proc/net/tcp: 32-bit words in the host's order, and the port, in hexadecimal.
func kernelAddress(t *testing.T, text string) *net.TCPAddr {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatalf("address %q: %v", text, err)
	}
	var ip net.IP
	for i := 0; i+8 <= len(host); i += 8 {
		w, err := strconv.ParseUint(host[i:i+8], 16, 32)
		if err != nil {
			t.Fatalf("address %q: %v", text, err)
		}
		ip = append(ip, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return &net.TCPAddr{IP: ip, Port: int(p)}
}

// TestAnonymousSeesHealthOnly, and RBAC is in force for who is somebody.
func TestAnonymousSeesHealthOnly(t *testing.T) {
	status := func(path string) string {
		return strings.TrimSpace(must(t, "curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "https://198.51.100.1:6443"+path))
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/version"} {
		if got := status(path); got != "200" {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, path := range []string{"/", "/api", "/apis", "/api/v1/namespaces", "/api/v1/secrets", "/openapi/v2", "/openapi/v3", "/metrics", "/logs/", "/debug/pprof/", "/livez/ping",
		"/openid/v1/jwks", "/.well-known/openid-configuration", "/orlog/v1/position", "/orlog/v1/log", "/orlog/v1/events", "/orlog/v1/history?resource=secrets&name=x", "/at/1/api/v1/secrets"} {
		if got := status(path); got != "401" {
			t.Errorf("%s: %s, want 401", path, got)
		}
	}
	for _, verb := range []string{"get", "list", "create"} {
		if out := mustFail(t, "kubectl", "auth", "can-i", verb, "secrets", "--as", "nobody-in-particular"); !strings.Contains(out, "no") {
			t.Errorf("%s secrets: %s", verb, out)
		}
	}
}

package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Exec runs a command in a container and returns its exit code and the beginning of its output. A command that
// could not be run, or was still running when ctx ended, is an error.
type Exec func(ctx context.Context, command []string) (code int, output string, err error)

// Place is where a container is reached.
type Place struct {
	IP        string
	Container *v1.Container
	Exec      Exec
}

// outputLimit bounds what is read of an answer.
const outputLimit = 10 << 10

// UserAgent introduces HTTP probes.
const UserAgent = "kube-probe/1.36"

// Check asks once, within the time that ctx leaves. ok: the container answered as it should. output says why not.
func Check(ctx context.Context, h v1.ProbeHandler, at Place) (ok bool, output string) {
	var err error
	switch {
	case h.Exec != nil:
		var code int
		code, output, err = at.Exec(ctx, h.Exec.Command)
		if err == nil {
			return code == 0, output
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("command timed out: %q", strings.Join(h.Exec.Command, " "))
		}
	case h.HTTPGet != nil:
		output, err = HTTPGet(ctx, h.HTTPGet, at)
	case h.TCPSocket != nil:
		err = tcp(ctx, h.TCPSocket, at)
	case h.GRPC != nil:
		err = grpcHealth(ctx, h.GRPC, at)
	default:
		err = errors.New("probe has no handler: set exec, httpGet, tcpSocket or grpc")
	}
	if err != nil {
		return false, err.Error()
	}
	return true, output
}

// Port resolves a port by number or by a container port's name.
func Port(p intstr.IntOrString, c *v1.Container) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, port := range c.Ports {
			if port.Name == p.StrVal {
				return int(port.ContainerPort), nil
			}
		}
		var err error
		if n, err = strconv.Atoi(p.StrVal); err != nil {
			return 0, fmt.Errorf("couldn't find port: %v", p.StrVal)
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", p.String())
	}
	return n, nil
}

func address(host string, p intstr.IntOrString, at Place) (string, error) {
	port, err := Port(p, at.Container)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = at.IP
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// HTTPGet asks by HTTP or HTTPS (any certificate will do). A status from 200 to 399 is a success, and so is a
// redirection to another host.
func HTTPGet(ctx context.Context, g *v1.HTTPGetAction, at Place) (string, error) {
	addr, err := address(g.Host, g.Port, at)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(g.Path)
	if err != nil {
		u = &url.URL{Path: g.Path}
	}
	u.Scheme, u.Host = strings.ToLower(string(g.Scheme)), addr
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", UserAgent)
	req.Header.Set("Accept", "*/*")
	for _, h := range g.HTTPHeaders {
		switch {
		case strings.EqualFold(h.Name, "host"):
			req.Host = h.Value
		case h.Value == "" && (strings.EqualFold(h.Name, "user-agent") || strings.EqualFold(h.Name, "accept")):
			req.Header.Del(h.Name)
		case strings.EqualFold(h.Name, "user-agent") || strings.EqualFold(h.Name, "accept"):
			req.Header.Set(h.Name, h.Value)
		default:
			req.Header.Add(h.Name, h.Value)
		}
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, Proxy: nil,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // a probe asks for life, not for identity
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, outputLimit))
	if err != nil {
		return "", err
	}
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return "", fmt.Errorf("HTTP probe failed with statuscode: %d", res.StatusCode)
	}
	return string(body), nil
}

func tcp(ctx context.Context, a *v1.TCPSocketAction, at Place) error {
	addr, err := address(a.Host, a.Port, at)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func grpcHealth(ctx context.Context, a *v1.GRPCAction, at Place) error {
	addr := net.JoinHostPort(at.IP, strconv.Itoa(int(a.Port)))
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(UserAgent))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	res, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unimplemented:
		return fmt.Errorf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
	case codes.DeadlineExceeded:
		return errors.New("timeout: health rpc did not complete in time")
	case codes.Unavailable:
		return fmt.Errorf("timeout: failed to connect service %q: %w", addr, err)
	default:
		return fmt.Errorf("error: health rpc probe failed: %w", err)
	}
	if res.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", res.Status.String())
	}
	return nil
}

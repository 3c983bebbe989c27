package telemetry

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/settings"
)

// Options are the settings.
type Options struct {
	// MetricsListen is host:port of an HTTP listener for /metrics, "" for none.
	MetricsListen string
	// TraceEndpoint is where spans go by OTLP over gRPC: host:port or http://host:port in plain text, https://host:port
	// with TLS. "" for nowhere.
	TraceEndpoint string
	// TraceSampling is the share, 0 to 1, of the traces begun here that are recorded.
	TraceSampling float64
}

// AddFlags declares the settings. whose says where the metrics can be had without a listener.
func AddFlags(f *pflag.FlagSet, whose string) {
	f.String("metrics-listen", "", "host:port of a plain HTTP listener that serves /metrics to anybody who reaches it; empty: none, the metrics are "+whose)
	f.String("trace-endpoint", "", "OTLP/gRPC collector to send traces to: host:port, or https://host:port for TLS; empty: none, and a client's traceparent is still passed on")
	f.Float64("trace-sampling", 1, "share of the requests to trace, 0 to 1; one that a privileged client asks to be traced always is")
}

// Read reads the settings. Errors name them.
func Read(s *settings.Settings) (o Options, err error) {
	o = Options{MetricsListen: s.String("metrics-listen"), TraceEndpoint: s.String("trace-endpoint")}
	if o.MetricsListen != "" {
		if err := hostPort(o.MetricsListen); err != nil {
			return o, fmt.Errorf("metrics-listen %q: want host:port, such as 127.0.0.1:9600: %w", o.MetricsListen, err)
		}
	}
	if o.TraceEndpoint != "" {
		if _, _, err := endpoint(o.TraceEndpoint); err != nil {
			return o, fmt.Errorf("trace-endpoint %q: want host:port, such as 127.0.0.1:4317, or http:// or https:// before it: %w", o.TraceEndpoint, err)
		}
	}
	text := s.String("trace-sampling")
	if o.TraceSampling, err = strconv.ParseFloat(text, 64); err != nil || !(o.TraceSampling >= 0 && o.TraceSampling <= 1) {
		return o, fmt.Errorf("trace-sampling %q: want a number from 0 (none but those asked for) to 1 (all)", text)
	}
	return o, nil
}

// endpoint takes an endpoint apart: its host:port, and whether it speaks TLS.
func endpoint(text string) (address string, tls bool, err error) {
	address = text
	if u, parseErr := url.Parse(text); parseErr == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
			return "", false, fmt.Errorf("nothing may follow the port: OTLP over gRPC has no path")
		}
		address, tls = u.Host, u.Scheme == "https"
	}
	return address, tls, hostPort(address)
}

func hostPort(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

//go:build system

package systemtest

import (
	"context"
	"encoding/hex"
	"sync"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// Where, inside the cluster's network namespace, traces are received and metrics are listened for.
const (
	traceEndpoint = "127.0.0.1:4317"
	orlogdMetrics = "127.0.0.1:9600"
	agentMetrics  = "127.0.0.1:9601"
)

// span is what the tests look at of a span.
type span struct {
	service, name, trace, id, parent string
	failed                           bool
}

// traceReceiver is an OpenTelemetry collector that keeps what it gets.
type traceReceiver struct {
	collector.UnimplementedTraceServiceServer
	server *grpc.Server
	ended  chan struct{}

	mu    sync.Mutex
	spans []span
}

func receiveTraces(namespace string) (*traceReceiver, error) {
	l, err := listenInside(namespace, traceEndpoint)
	if err != nil {
		return nil, err
	}
	r := &traceReceiver{server: grpc.NewServer(), ended: make(chan struct{})}
	collector.RegisterTraceServiceServer(r.server, r)
	go func() {
		defer close(r.ended)
		_ = r.server.Serve(l) // ends with stop
	}()
	return r, nil
}

func (r *traceReceiver) stop() {
	r.server.Stop()
	<-r.ended
}

// Export implements the collector's service.
func (r *traceReceiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, from := range in.GetResourceSpans() {
		service := ""
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, span{service, s.GetName(), hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()),
					hex.EncodeToString(s.GetParentSpanId()), s.GetStatus().GetCode() == 2})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// trace are the spans of a trace so far, by id.
func (r *traceReceiver) trace(id string) map[string]span {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]span{}
	for _, s := range r.spans {
		if s.trace == id {
			out[s.id] = s
		}
	}
	return out
}

func (r *traceReceiver) others(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.spans {
		if s.trace != id {
			n++
		}
	}
	return n
}

package telemetry

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/cli/settings"
)

func read(t *testing.T, args ...string) (Options, error) {
	t.Helper()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(f, "elsewhere")
	file := filepath.Join(t.TempDir(), "none.yaml")
	settings.AddFlags(f, file)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Load(f, file)
	if err != nil {
		t.Fatal(err)
	}
	return Read(s)
}

func TestRead(t *testing.T) {
	if o, err := read(t); err != nil || o != (Options{TraceSampling: 1}) {
		t.Errorf("defaults: %+v, %v", o, err)
	}
	for _, endpoint := range []string{"127.0.0.1:4317", "http://collector:4317", "https://collector.example.com:443/", "[::1]:4317"} {
		if o, err := read(t, "--trace-endpoint", endpoint, "--trace-sampling", "0.25", "--metrics-listen", ":9600"); err != nil || o.TraceSampling != 0.25 || o.TraceEndpoint != endpoint {
			t.Errorf("%s: %+v, %v", endpoint, o, err)
		}
	}
	for _, c := range [][2]string{{"metrics-listen", "9600"}, {"metrics-listen", "a:b"}, {"trace-endpoint", "collector"}, {"trace-endpoint", "https://collector:1/v1/traces"},
		{"trace-endpoint", "grpc://collector:4317"}, {"trace-sampling", "1.5"}, {"trace-sampling", "-1"}, {"trace-sampling", "NaN"}} {
		if _, err := read(t, "--"+c[0], c[1]); err == nil || !strings.HasPrefix(err.Error(), c[0]+" ") || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s %s: %v", c[0], c[1], err)
		}
	}
}

func TestListen(t *testing.T) {
	if l, err := Listen(Options{}); l != nil || err != nil || l.Serve(t.Context(), nil) != nil {
		t.Errorf("without an address: %v, %v", l, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "orlog_test_total", Help: "A test."}, func() float64 { return 7 }))
	l, err := Listen(Options{MetricsListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{MetricsListen: l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "metrics-listen") {
		t.Errorf("a port that is taken: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve(t.Context(), registry) }()
	t.Cleanup(func() { // t's context has ended
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	resp, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "orlog_test_total 7") {
		t.Errorf("%v: %s", err, body)
	}
}

// TestWithoutACollectorNothingWaits: neither the start nor the end.
func TestWithoutACollectorNothingWaits(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	closed.Close()
	off, err := OpenTraces(t.Context(), Options{}, "test", "n1", nil)
	if err != nil || off.Provider() != nil {
		t.Errorf("off: %v, %v", off.Provider(), err)
	}
	off.Close()
	on, err := OpenTraces(t.Context(), Options{TraceEndpoint: address, TraceSampling: 1}, "test", "n1", nil)
	if err != nil || on.Provider() == nil {
		t.Fatalf("on: %v, %v", on, err)
	}
	on.Close()
}

// TestDashboardsAskForDocumentedMetrics: the files in deploy/dashboards can be read, and name no metric of Orlog's that
// their page does not. The system tests hold the page against what there is.
func TestDashboardsAskForDocumentedMetrics(t *testing.T) {
	dir := filepath.Join("..", "..", "deploy", "dashboards")
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`orlog_\w+`)
	for _, file := range []string{"orlog.json", "alerts.yaml", "prometheus.yaml"} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		var content map[string]any
		if strings.HasSuffix(file, ".json") {
			err = json.Unmarshal(raw, &content)
		} else {
			err = yaml.UnmarshalStrict(raw, &content)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, m := range name.FindAllString(string(raw), -1) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				m = strings.TrimSuffix(m, suffix)
			}
			if !strings.Contains(string(page), "`"+m+"`") {
				t.Errorf("%s asks for %s, which README.md does not know", file, m)
			}
		}
	}
}

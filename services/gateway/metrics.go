package gateway

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/component-base/metrics/legacyregistry"
)

// metricsPath is where upstream serves its metrics, to those who have it by RBAC (system:monitoring, among others).
const metricsPath = "/metrics"

// AllMetrics are upstream's metrics of this process together with ours; nil: upstream's alone.
func AllMetrics(ours prometheus.Gatherer) prometheus.Gatherer {
	if ours == nil {
		return legacyregistry.DefaultGatherer
	}
	return prometheus.Gatherers{legacyregistry.DefaultGatherer, ours}
}

// withMetrics answers GET /metrics with upstream's and our own, so that one scrape of the API server, as every
// Prometheus set up for Kubernetes does it, tells of both. It stands behind authentication and authorization. One
// metric that fails does not hide the others: they are served without it.
func (g *Gateway) withMetrics(next http.Handler) http.Handler {
	if g.settings.Metrics == nil {
		return next
	}
	all := promhttp.HandlerFor(AllMetrics(g.settings.Metrics), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: metricsLog{g}})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == metricsPath && r.Method == http.MethodGet {
			all.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// metricsLog takes the handler's errors.
type metricsLog struct{ g *Gateway }

// Println implements promhttp.Logger.
func (l metricsLog) Println(v ...any) {
	l.g.settings.Logger.Warn("gateway: metrics", "error", fmt.Sprint(v...))
}

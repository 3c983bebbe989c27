package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The leases in kube-system, as upstream names them: one for the scheduler, one for all reconcilers.
const (
	schedulerLease   = "kube-scheduler"
	reconcilersLease = "kube-controller-manager"
)

// How long a leader that is not heard of any more stays one, after how long without the API it gives up, and how
// often it renews: what upstream's components take by default.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	renewEvery    = 2 * time.Second
)

// candidate is this orlogd among several on one log. Their guards would keep two leaders from contradicting each
// other, but both would decide, and lose half of their races. nil: there can be no other.
type candidate struct {
	id     string
	client kubernetes.Interface
	logger *slog.Logger
}

// newCandidate is nil where the log is inside this orlogd, which then is alone on it.
func newCandidate(o options, config *rest.Config, logger *slog.Logger) (*candidate, error) {
	if o.natsURL == "" {
		return nil, nil
	}
	id, err := identity(o.dataDir)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return &candidate{id: o.nodeName + "_" + id, client: client, logger: logger}, nil
}

// identity names the owner of a data folder. It stays, so that an orlogd that was killed leads on at once when it is
// back, instead of waiting for its own lease to end.
func identity(dataDir string) (string, error) {
	file := filepath.Join(dataDir, "identity")
	is, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(is)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data-dir: %w", err)
	}
	id := rand.Text()
	if err := os.WriteFile(file, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("data-dir: %w", err)
	}
	return id, nil
}

// lead runs a service whenever this orlogd holds the lease of that name, until ctx ends or the service does.
func (c *candidate) lead(ctx context.Context, lease string, registry prometheus.Registerer, run func(context.Context, prometheus.Registerer) error) error {
	if c == nil {
		return run(ctx, registry)
	}
	log := c.logger.With("lease", lease)
	for {
		err := c.term(ctx, lease, log, func(leading context.Context) error {
			own := &scope{Registerer: registry}
			defer own.close()
			return run(leading, own)
		})
		if !errors.Is(err, errDeposed) {
			return err
		}
		log.Warn("this orlogd does not lead any more: its lease could not be renewed in time")
	}
}

// errDeposed: a lease was lost.
var errDeposed = errors.New("the lease was lost")

// term waits for the lease and runs the service until the lease is lost (errDeposed), ctx ends, or the service does.
func (c *candidate) term(ctx context.Context, lease string, log *slog.Logger, run func(context.Context) error) error {
	ctx, resign := context.WithCancel(ctx)
	defer resign()
	elected := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: lease,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: lease},
			Client:     c.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.id},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: renewEvery,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) { elected <- leading },
			OnStoppedLeading: func() {},
			OnNewLeader: func(who string) {
				if who != c.id {
					log.Info("another orlogd leads", "who", who)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election of %s: %w", lease, err)
	}
	over := make(chan struct{})
	go func() { defer close(over); elector.Run(ctx) }()
	defer func() { resign(); <-over }()
	select {
	case leading := <-elected:
		log.Info("this orlogd leads", "as", c.id)
		if err := run(leading); leading.Err() == nil || ctx.Err() != nil || err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	case <-over:
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errDeposed
}

// scope is a registry for as long as something runs that may run again.
type scope struct {
	prometheus.Registerer
	mu  sync.Mutex
	own []prometheus.Collector
}

// Register implements prometheus.Registerer.
func (s *scope) Register(c prometheus.Collector) error {
	if err := s.Registerer.Register(c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = append(s.own, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (s *scope) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := s.Register(c); err != nil {
			panic(err)
		}
	}
}

func (s *scope) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.own {
		s.Unregister(c)
	}
	s.own = nil
}

package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/version"
	genericfeatures "k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3/metrics"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/kubernetes/pkg/capabilities"
)

// KubernetesVersion is the API that the gateway speaks, as /version reports it.
const KubernetesVersion = "v1.36.3"

// LinkerFlags stamp the same version into binaries that embed kubectl or print upstream's own version. The
// gateway does not need them: it reports KubernetesVersion by itself.
const LinkerFlags = "-X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"

// claimed: a gateway exists in this process.
var claimed atomic.Bool

// releaseProcess lets another gateway be made, after this one has ended.
func releaseProcess() { claimed.Store(false) }

// claimProcess sets upstream's process globals. A second gateway at the same time would share them.
func claimProcess(logger *slog.Logger) error {
	if !claimed.CompareAndSwap(false, true) {
		return errors.New("gateway: only one gateway can run in a process, because upstream's API server keeps process-wide state; start another process")
	}
	redirectKlog(logger)
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	// Privileged containers are allowed, as PodSecurity admission decides about them.
	capabilities.Setup(true, 0)
	// The watch cache asks this global whether storage can report progress. Only etcd clients ever teach it
	// so; ours can, hence consistent reads from the cache and WatchList work.
	etcdfeature.DefaultFeatureSupportChecker = progressSupported{etcdfeature.DefaultFeatureSupportChecker}
	err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
		// These keep state in etcd past the storage interface, or only serve several different API servers.
		string(genericfeatures.APIServerIdentity):                   false,
		string(genericfeatures.UnknownVersionInteroperabilityProxy): false,
	})
	if err != nil {
		releaseProcess()
		return fmt.Errorf("gateway: feature gates: %w", err)
	}
	return nil
}

// forgetEtcdMonitor keeps a scrape of /metrics from making etcd clients to ask for database sizes.
func forgetEtcdMonitor() {
	metrics.SetStorageMonitorGetter(func() ([]metrics.Monitor, error) { return nil, nil })
}

// progressSupported embeds the old checker only because upstream's interface has an unexported type in it.
type progressSupported struct {
	etcdfeature.FeatureSupportChecker
}

func (progressSupported) Supports(f storage.Feature) bool { return f == storage.RequestWatchProgress }

// stampedVersion reports KubernetesVersion where no linker flag did.
type stampedVersion struct {
	basecompatibility.EffectiveVersion
}

func (s stampedVersion) Info() *version.Info {
	info := s.EffectiveVersion.Info()
	if info == nil {
		return nil
	}
	stamped := *info
	stamped.GitVersion, stamped.GitTreeState = KubernetesVersion+"+orlog", "clean"
	return &stamped
}

package nodeagent

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/node/agent"
	"github.com/orlog-io/orlog/node/image"
)

func read(t *testing.T, args ...string) (agent.Options, error) {
	t.Helper()
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	settings.AddFlags(f, "/nowhere")
	f.String("node-name", "n1", "")
	f.String("service-cidr", "10.96.0.0/16", "")
	f.String("cluster-domain", "cluster.local", "")
	AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Load(f, "/nowhere")
	if err != nil {
		return agent.Options{}, err
	}
	return Read(s, t.TempDir(), slog.New(slog.DiscardHandler))
}

func TestWhatIsKept(t *testing.T) {
	o, err := read(t)
	if err != nil {
		t.Fatal(err)
	}
	if o.ImageGC != image.DefaultPolicy || o.DeadContainers != (agent.DeadContainers{Max: 1}) || o.LogMaxSize != 10<<20 || o.LogFiles != 5 || o.SeccompDefault {
		t.Errorf("the defaults are not the kubelet's: %+v", o)
	}
	t.Setenv("ORLOG_IMAGE_GC_LOW_THRESHOLD", "40")
	o, err = read(t, "--image-gc-high-threshold=60", "--minimum-image-ttl-duration=1h", "--maximum-dead-containers-per-container=-1",
		"--container-log-max-size=1Mi", "--container-log-max-files=2", "--seccomp-default", "--registry-mirror=docker.io=http://mirror:5000/hub")
	if err != nil {
		t.Fatal(err)
	}
	if o.ImageGC != (image.Policy{High: 60, Low: 40, MinAge: time.Hour}) || o.DeadContainers.Max != -1 || o.LogMaxSize != 1<<20 || o.LogFiles != 2 ||
		!o.SeccompDefault || o.Mirrors["docker.io"][0] != "http://mirror:5000/hub" {
		t.Errorf("%+v", o)
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	for _, arg := range []string{"image-gc-high-threshold=70", "image-gc-low-threshold=101", "minimum-image-ttl-duration=-1s",
		"container-log-max-size=many", "container-log-max-files=1", "registry-mirror=docker.io", "pod-cidr=here", "cgroup-root=/"} {
		name, _, _ := strings.Cut(arg, "=")
		if _, err := read(t, "--"+arg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("--%s: %v", arg, err)
		}
	}
	t.Setenv("ORLOG_IMAGE_GC_HIGH_THRESHOLD", "plenty")
	if _, err := read(t); err == nil || !strings.Contains(err.Error(), "image-gc-high-threshold") || !strings.Contains(err.Error(), `"plenty"`) {
		t.Error(err)
	}
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/runc"
)

// lone is a worker whose agent does nothing by itself.
func lone(t *testing.T, o Options, p *v1.Pod) (*worker, *world) {
	t.Helper()
	world := newWorld()
	o.NodeName, o.DataDir, o.LogDir = "n1", t.TempDir(), t.TempDir()
	o.Runtime, o.Images, o.NodeIPs = world, world, []string{"192.0.2.10"}
	if err := o.defaults(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a := &Agent{o: o, log: log, records: records{filepath.Join(o.DataDir, "pods")}, workers: map[string]*worker{},
		events: &recorder{queue: make(chan note, 100), rec: record.NewFakeRecorder(0), log: log}, pulls: make(chan struct{}, 1)}
	a.sources = sources{a}
	w := newWorker(a, seen{Pod: p})
	w.rec = ladder.NewRecord(p, time.Now())
	a.workers[w.uid] = w
	return w, world
}

// told are the events that were made, in order.
func (r *recorder) told() []string {
	var out []string
	for len(r.queue) > 0 {
		n := <-r.queue
		out = append(out, n.why+": "+n.text)
	}
	return out
}

func touch(t *testing.T, path string, age time.Duration) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
}

func TestTidyKeepsWhatThePolicyWants(t *testing.T) {
	for _, c := range []struct {
		policy        DeadContainers
		logs, removed string
	}{
		{DeadContainers{Max: 1}, "2.log 2.log.20260101-000000.000000000 3.log", "stray"},
		{DeadContainers{Max: 0}, "3.log", "current stray"},
		{DeadContainers{Max: 0, MinAge: 2 * time.Hour}, "1.log 2.log 2.log.20260101-000000.000000000 3.log", "stray"},
		{DeadContainers{Max: -1}, "0.log 1.log 2.log 2.log.20260101-000000.000000000 3.log", "stray"},
	} {
		t.Run(fmt.Sprint(c.policy), func(t *testing.T) {
			p := pod("web", nil)
			w, world := lone(t, Options{DeadContainers: c.policy}, p)
			*w.rec.Container("main") = ladder.Container{ID: "current", Attempt: 3, Exit: &ladder.Exit{FinishedAt: time.Now().Add(-time.Hour)}}
			w.rec.Container("waits")
			w.instances = map[string]ladder.Instance{"current": {ID: "current", Exited: true}, "stray": {ID: "stray", Exited: true}, "begun": {ID: "begun", Running: true}}
			world.runs[w.uid] = map[string]*runc.Status{"current": {}, "stray": {}, "begun": {}}
			for name, age := range map[string]time.Duration{"0.log": 3 * time.Hour, "1.log": 90 * time.Minute, "2.log": time.Hour, "2.log.20260101-000000.000000000": time.Hour, "3.log": 3 * time.Hour} {
				touch(t, filepath.Join(w.logDir(), "main", name), age)
			}
			for _, name := range []string{"2", "3"} {
				touch(t, filepath.Join(w.a.records.containerDir(w.uid, "main"), name), 3*time.Hour)
			}
			w.tidy(t.Context(), time.Now())

			list := func(dir string) string {
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, e := range entries {
					names = append(names, e.Name())
				}
				return strings.Join(names, " ")
			}
			if got := list(filepath.Join(w.logDir(), "main")); got != c.logs {
				t.Errorf("logs left: %s, want %s", got, c.logs)
			}
			if got := list(w.a.records.containerDir(w.uid, "main")); got != "3" {
				t.Errorf("termination messages left: %s", got)
			}
			var removed []string
			for _, id := range []string{"current", "stray", "begun"} {
				if world.runs[w.uid][id] == nil {
					removed = append(removed, id)
				}
			}
			if got := strings.Join(removed, " "); got != c.removed {
				t.Errorf("containers removed: %s, want %s", got, c.removed)
			}
		})
	}
}

func TestImagesInUseAreThoseOfPodsThatAreNotOver(t *testing.T) {
	p := pod("web", func(p *v1.Pod) {
		p.Spec.InitContainers = []v1.Container{{Name: "init", Image: "init:1"}}
		p.Spec.Containers[0].Image = "app:2"
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "data:1"}}}}
	})
	w, _ := lone(t, Options{}, p)
	*w.rec.Container("main") = ladder.Container{ID: "x", Image: "app:1", ImageID: "app@sha256:1"} // the new image is not running yet
	w.publish()
	if got, want := strings.Join(w.a.imagesInUse(), " "), "app:1 app@sha256:1 init:1 app:2 data:1"; got != want {
		t.Errorf("in use: %s, want %s", got, want)
	}
	w.rec.Down = true
	w.publish()
	if got := w.a.imagesInUse(); len(got) != 0 {
		t.Errorf("of a pod that is over: %s", got)
	}
}

// slowly is a registry that takes its time.
type slowly struct {
	*world
	pull func(ctx context.Context, progress func(image.Progress)) (Image, error)
}

func (s slowly) Pull(ctx context.Context, _ string, _ [][]byte, progress func(image.Progress)) (Image, error) {
	return s.pull(ctx, progress)
}

func TestLongPullTellsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pod("web", func(p *v1.Pod) { p.Spec.Containers[0].Image = "big:1" })
		w, world := lone(t, Options{}, p)
		w.a.o.Images = slowly{world, func(_ context.Context, progress func(image.Progress)) (Image, error) {
			time.Sleep(15 * time.Second)
			progress(image.Progress{Layer: "a", Done: 10e6, Total: 10e6, Unpacked: true})
			progress(image.Progress{Layer: "b", Done: 40e6, Total: 190e6})
			time.Sleep(20 * time.Second)
			return Image{ID: "big@sha256:1", Size: 200e6}, nil
		}}
		o := w.pull(t.Context(), p, &p.Spec.Containers[0], "")
		if o.Err != nil || o.ImageID != "big@sha256:1" || !o.Fetched {
			t.Fatalf("%+v", o)
		}
		want := []string{`Pulling: Pulling image "big:1"`,
			`Pulling: Still pulling image "big:1": the registry has not answered yet`,
			`Pulling: Still pulling image "big:1": 50MB of 200MB, 1 of 2 layers unpacked`,
			`Pulled: Successfully pulled image "big:1" in 35s (35s including waiting). Image size: 200000000 bytes.`}
		if got := w.a.events.told(); !slices.Equal(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
	})
}

func TestPullFailuresHaveTheirReasons(t *testing.T) {
	p := pod("web", func(p *v1.Pod) { p.Spec.Containers[0].Image = "x:1" })
	never := pod("web", func(p *v1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "x:1", v1.PullNever
	})
	for _, c := range []struct {
		pod             *v1.Pod
		err             error
		reason, message string
	}{
		{p, errors.New("denied"), "ErrImagePull", `failed to pull and unpack image "x:1": denied`},
		{p, fmt.Errorf("%w: dial tcp", ErrRegistryUnavailable), "RegistryUnavailable", "image pull failed for x:1 because the registry is unavailable: registry is unavailable: dial tcp"},
		{p, fmt.Errorf("%w: bad", ErrInvalidImage), "InvalidImageName", "invalid image name: bad"},
		{never, nil, "ErrImageNeverPull", `container image "x:1" is not present with pull policy of Never`},
	} {
		w, world := lone(t, Options{}, c.pod)
		w.a.o.Images = slowly{world, func(context.Context, func(image.Progress)) (Image, error) { return Image{}, c.err }}
		o := w.pull(t.Context(), c.pod, &c.pod.Spec.Containers[0], "")
		if o.Reason != c.reason || o.Err == nil || o.Err.Error() != c.message {
			t.Errorf("%s: %v, want %s: %s", o.Reason, o.Err, c.reason, c.message)
		}
		got := w.a.events.told()
		if n := len(got); n < 2 || got[n-2] != `Failed: Failed to pull image "x:1": `+c.message || got[n-1] != "Failed: Error: "+c.reason {
			t.Errorf("%s: events %q", c.reason, got)
		}
	}
}

// An image that was removed between its pull and the container's start is got again.
func TestImageThatIsRemovedIsGotAgain(t *testing.T) {
	b := newBench(t)
	p := pod("web", nil)
	b.world.mu.Lock()
	b.world.gone = func(calls int) bool { // Get is called by the pull step, then by the start step
		return calls == 2
	}
	b.world.mu.Unlock()
	b.want(p, "bound")
	b.awaitReady(p)
	if n := b.world.gets; n < 4 {
		t.Errorf("the image was looked for %d times", n)
	}
}

// TestBackOffNamesTheImageThatIsMissing: it may be a volume's, and not the container's own.
func TestBackOffNamesTheImageThatIsMissing(t *testing.T) {
	p := pod("web", nil)
	w, _ := lone(t, Options{}, p)
	is := &v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "main", Image: "app:1", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{
		Reason: "ImagePullBackOff", Message: `Back-off pulling image "data:1": ErrImagePull: denied`}}}}}
	w.backOffEvents(p, &v1.PodStatus{}, is)
	if got, want := w.a.events.told(), []string{`BackOff: Back-off pulling image "data:1"`, "Failed: Error: ImagePullBackOff"}; !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

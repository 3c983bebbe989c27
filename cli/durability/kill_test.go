//go:build system

package durability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const writers = 8

// fromEnvironment reads a number, for runs that are longer or fall otherwise.
func fromEnvironment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: want a positive number", name, text)
	}
	return n
}

// TestKills kills orlogd at random moments: most often while it serves writers, sometimes while it starts.
func TestKills(t *testing.T) {
	kills, seed := fromEnvironment(t, "ORLOG_KILLS", 12), fromEnvironment(t, "ORLOG_KILL_SEED", 1)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	d := newDaemon(t)
	d.start(t)
	d.ready(t)
	client, err := d.client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	answers := make(chan struct{}, 1)
	var all []*writer
	var running sync.WaitGroup
	for n := range writers {
		w := &writer{name: fmt.Sprint("w", n), client: d.client, random: rand.New(rand.NewPCG(uint64(seed), uint64(n+1))),
			living: map[string]*corev1.ConfigMap{}, answers: answers}
		all = append(all, w)
		running.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	var starts []time.Duration
	for n := range kills {
		if random.IntN(5) > 0 { // while it serves: at least one answer comes between kills
			select {
			case <-answers:
			default:
			}
			select {
			case <-answers:
			case <-time.After(time.Minute):
				t.Fatalf("kill %d: no writer got an answer within a minute", n+1)
			}
			time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		} else { // while it starts
			d.kill()
			d.start(t)
			time.Sleep(time.Duration(random.Int64N(int64(2 * time.Second))))
		}
		d.kill()
		began := time.Now()
		d.start(t)
		d.ready(t)
		starts = append(starts, time.Since(began))
		if (n+1)%10 == 0 {
			t.Logf("%d kills", n+1)
		}
		if t.Failed() {
			break
		}
	}
	stop()
	running.Wait()
	d.stop(t)
	slices.Sort(starts)
	t.Logf("%d kills, seed %d; from start to ready: median %v, longest %v", len(starts), seed, starts[len(starts)/2], starts[len(starts)-1])

	log := openLog(t, d.dataDir())
	compare(t, all, readAll(t, log))
	checkProjections(t, d.dataDir(), log)
	checkNotary(t, d.dataDir(), log)
}

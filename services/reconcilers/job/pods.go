package job

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// How long a Job waits before it replaces a pod that failed: doubling with each failure since the last
// success.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 10 * time.Minute
	burst        = 500
)

// manage makes or deletes pods until as many are active as there should be.
func (r *round) manage() {
	want := r.wanted()
	occupied := len(r.active)
	if r.waitsForEnd() {
		occupied += len(r.terminating)
	}
	switch diff := want - occupied; {
	case len(r.active) > want:
		surplus := slices.Clone(r.active)
		slices.SortStableFunc(surplus, func(a, b *corev1.Pod) int { return -cmp.Compare(rank(a), rank(b)) })
		r.stop(surplus[:len(r.active)-want])
		r.active = surplus[len(r.active)-want:]
	case diff > 0:
		if left := r.backoff(); left > 0 {
			r.out.AgainIn(left)
			return
		}
		r.start(min(diff, burst))
	}
}

// rank: what is deleted first has come least far.
func rank(p *corev1.Pod) int {
	switch {
	case p.Spec.NodeName == "":
		return 3
	case p.Status.Phase != corev1.PodRunning:
		return 2
	case replica.Ready(p) == nil:
		return 1
	}
	return 0
}

func (r *round) wanted() int {
	parallelism := int(replica.Deref(r.job.Spec.Parallelism, 1))
	if r.job.Spec.Completions == nil {
		if r.succeededSoFar() > 0 {
			return min(parallelism, len(r.active))
		}
		return parallelism
	}
	return max(0, min(parallelism, int(*r.job.Spec.Completions)-r.succeededSoFar()-len(r.failed)))
}

// backoff is how long is still to be waited after the last failure.
func (r *round) backoff() time.Duration {
	if r.job.Spec.BackoffLimitPerIndex != nil {
		return 0 // each index waits for itself: its failures are few by its limit
	}
	var success, failure time.Time
	for _, p := range r.pods {
		if p.Status.Phase == corev1.PodSucceeded {
			success = later(success, ended(p))
		}
	}
	n := 0
	for _, p := range r.pods {
		if r.hasFailed(p) && ended(p).After(success) {
			n++
			failure = later(failure, ended(p))
		}
	}
	if n == 0 {
		return 0
	}
	wait := lastBackoff
	if n < 8 {
		wait = min(firstBackoff<<(n-1), lastBackoff)
	}
	return failure.Add(wait).Sub(r.now)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ended is when a pod's last container ended; failing that, when it was deleted or made.
func ended(p *corev1.Pod) time.Time {
	var last time.Time
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated != nil {
			last = later(last, c.State.Terminated.FinishedAt.Time)
		}
	}
	switch {
	case !last.IsZero():
		return last
	case p.DeletionTimestamp != nil:
		return p.DeletionTimestamp.Time
	}
	return p.CreationTimestamp.Time
}

// stop deletes pods that are not to be counted.
func (r *round) stop(pods []*corev1.Pod) {
	var free, gone []loop.Effect
	for _, p := range pods {
		if tracked(p) {
			free = append(free, untrack(p))
		}
		gone = append(gone, loop.Pods.Delete(p))
	}
	r.out.Do(free...)
	r.out.Then(gone...)
}

func (r *round) start(n int) {
	var effects []loop.Effect
	if r.indexed() {
		for _, i := range r.missing(n) {
			effects = append(effects, r.makeIndexed(i))
		}
	} else {
		names := replica.Names(r.v, loop.Pods, r.job.Namespace, r.job.Name+"-", string(r.job.UID))
		for range n {
			effects = append(effects, loop.Pods.Create(r.template(names.Next(), r.job.Name+"-")))
		}
	}
	r.out.Do(effects...)
}

func (r *round) template(name, generate string) *corev1.Pod {
	p := replica.NewPod(&r.job.Spec.Template, r.job.Namespace, name, generate, r.ref)
	p.Finalizers = append(p.Finalizers, batchv1.JobTrackingFinalizer)
	return p
}

// missing are the lowest indexes that nobody works on.
func (r *round) missing(n int) []int {
	busy := map[int]bool{}
	for _, p := range r.active {
		busy[indexOf(p)] = true
	}
	if r.waitsForEnd() {
		for _, p := range r.terminating {
			busy[indexOf(p)] = true
		}
	}
	var out []int
	for i := 0; i < int(*r.job.Spec.Completions) && len(out) < n; i++ {
		if !busy[i] && !r.completed.has(i) && !r.failed.has(i) {
			out = append(out, i)
		}
	}
	return out
}

func (r *round) makeIndexed(i int) loop.Effect {
	base := fmt.Sprintf("%s-%d", r.job.Name, i)
	names := replica.Names(r.v, loop.Pods, r.job.Namespace, base+"-", string(r.job.UID))
	p := r.template(names.Next(), base+"-")
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Annotations[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(i)
	p.Labels[batchv1.JobCompletionIndexAnnotation] = strconv.Itoa(i)
	if r.job.Spec.BackoffLimitPerIndex != nil {
		r.carryFailures(p, i)
	}
	p.Spec.Hostname = base
	for c := range p.Spec.InitContainers {
		addIndex(&p.Spec.InitContainers[c])
	}
	for c := range p.Spec.Containers {
		addIndex(&p.Spec.Containers[c])
	}
	return loop.Pods.Create(p)
}

// carryFailures tells a pod how often its index has failed before it.
func (r *round) carryFailures(p *corev1.Pod, i int) {
	failed, ignored := 0, 0
	for _, before := range r.pods {
		if indexOf(before) != i || !r.hasFailed(before) {
			continue
		}
		n := failures(before)
		k, err := strconv.Atoi(before.Annotations[indexIgnored])
		if err != nil {
			k = 0 // none yet
		}
		if r.policy(before) == batchv1.PodFailurePolicyActionIgnore {
			k++
		} else {
			n++
		}
		failed, ignored = max(failed, n), max(ignored, k)
	}
	p.Annotations[indexFailures] = strconv.Itoa(failed)
	if ignored > 0 {
		p.Annotations[indexIgnored] = strconv.Itoa(ignored)
	}
}

const indexVariable = "JOB_COMPLETION_INDEX"

// addIndex tells a container its index.
func addIndex(c *corev1.Container) {
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)}}})
}

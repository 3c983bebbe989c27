package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

const (
	// resync is how often a quota is recounted in any case, as upstream does.
	resync = 5 * time.Minute
	// recheck is how soon after something was given back, or limits are new: what admission let in at the very same
	// time may not have been on the log yet, and of new limits it may not have known.
	recheck = 10 * time.Second
)

// Reconciler decides about ResourceQuotas.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "quota",
		Identity: loop.ServiceAccount("resourcequota-controller"),
		Inputs: []loop.Input{
			{Resource: "*", Keys: givenBack},
			{Resource: "resourcequotas", Keys: ofQuota},
		},
		Outputs: []loop.Output{{Resource: "resourcequotas", Subresource: "status"}},
	}
}

// ofQuota maps a quota to itself where its limits are not those it was counted for: not for what admission
// charges.
func ofQuota(v *loop.View, c loop.Change) []events.Key {
	q := loop.Quotas.Of(v, c.Next)
	if q == nil || (c.Prev.Exists() && equality.Semantic.DeepEqual(q.Spec.Hard, q.Status.Hard)) {
		return nil
	}
	return []events.Key{c.Next.Key}
}

// givenBack maps an object that uses less than it did to the quotas that limit it.
func givenBack(v *loop.View, c loop.Change) []events.Key {
	key := c.Next.Key
	if key.Namespace == "" || !(c.Gone() || (c.Prev.Exists() && changedUse(v, c))) {
		return nil
	}
	var out []events.Key
	for _, q := range loop.Quotas.List(v, key.Namespace) {
		for name := range q.Spec.Hard { // order does not matter: one name is as good as another
			if counted, ok := countedBy(name); ok && counted.Group == key.Group && counted.Resource == key.Resource {
				out = append(out, loop.Quotas.KeyOf(q))
				break
			}
		}
	}
	return out
}

// changedUse says whether an object that lives on uses another amount.
func changedUse(v *loop.View, c loop.Change) bool {
	switch {
	case loop.Pods.Is(c.Next.Key):
		prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
		return prev != nil && next != nil && (finished(prev) != finished(next) || terminating(prev) != terminating(next) ||
			(prev.DeletionTimestamp == nil) != (next.DeletionTimestamp == nil) || !equality.Semantic.DeepEqual(computeOf(prev), computeOf(next)))
	case loop.Services.Is(c.Next.Key):
		prev, next := loop.Services.Of(v, c.Prev), loop.Services.Of(v, c.Next)
		return prev != nil && next != nil && !equality.Semantic.DeepEqual(serviceUse(prev), serviceUse(next))
	case loop.Claims.Is(c.Next.Key):
		prev, next := loop.Claims.Of(v, c.Prev), loop.Claims.Of(v, c.Next)
		return prev != nil && next != nil && !equality.Semantic.DeepEqual(claimUse(prev), claimUse(next))
	}
	return false
}

// Decide decides about one ResourceQuota.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	q := loop.Quotas.At(v, key)
	if q == nil || q.DeletionTimestamp != nil {
		return d
	}
	used, soon := count(v, q, now)
	for name := range q.Spec.Hard {
		if was, known := q.Status.Used[name]; known {
			if _, counted := used[name]; !counted {
				used[name] = was // a name that nobody here knows
			}
		}
	}
	d.AgainIn(resync)
	if soon > 0 {
		d.AgainIn(soon)
	}
	if q.Status.Used != nil && equality.Semantic.DeepEqual(q.Spec.Hard, q.Status.Hard) && equality.Semantic.DeepEqual(q.Status.Used, used) {
		return d
	}
	if !equality.Semantic.DeepEqual(q.Spec.Hard, q.Status.Hard) {
		d.AgainIn(recheck)
	}
	for name, n := range used { // order does not matter: the shortest wait counts
		if was, known := q.Status.Used[name]; known && n.Cmp(was) < 0 {
			d.AgainIn(recheck)
		}
	}
	next := q.DeepCopy()
	next.Status = corev1.ResourceQuotaStatus{Hard: next.Spec.Hard, Used: used}
	d.Do(loop.Quotas.UpdateStatus(next))
	return d
}

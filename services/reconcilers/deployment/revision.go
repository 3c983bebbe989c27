package deployment

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/orlog-io/orlog/services/loop"
)

// Annotations by which kubectl rollout and proportional scaling know ReplicaSets.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
	rollbackAnnotation = "deprecated.deployment.rollback.to"

	hashLabel = appsv1.DefaultDeploymentUniqueLabelKey
)

// maxHistory bounds the revision history annotation, in bytes.
const maxHistory = 2000

// ownAnnotations are not copied from a Deployment to its ReplicaSets.
var ownAnnotations = map[string]bool{corev1.LastAppliedConfigAnnotation: true, revisionAnnotation: true, historyAnnotation: true,
	desiredAnnotation: true, maxAnnotation: true, rollbackAnnotation: true}

func revisionOf(rs *replicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0 // not numbered yet
	}
	return n
}

func (r *rollout) nextRevision() int64 {
	var last int64
	for _, rs := range r.old {
		last = max(last, revisionOf(rs))
	}
	return last + 1
}

// sameTemplate compares pod templates but for the hash label.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	delete(x.Labels, hashLabel)
	delete(y.Labels, hashLabel)
	return equality.Semantic.DeepEqual(x, y)
}

// templateHash names a pod template. Equal templates give equal hashes; collisions raise the counter.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	b, err := json.Marshal(t)
	if err != nil {
		panic("deployment: marshalling a pod template: " + err.Error()) // it came out of JSON
	}
	h := fnv.New32a()
	h.Write(b)
	if collisions != nil {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(*collisions)))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// syncRevision brings the current ReplicaSet's annotations, and the Deployment's revision, up to date.
func (r *rollout) syncRevision() {
	if r.current == nil {
		return
	}
	r.annotate(r.current.ReplicaSet, r.nextRevision())
	r.current.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	r.setRevision(r.current.Annotations[revisionAnnotation])
	if hasDeadline(r.d) && condition(&r.d.Status, appsv1.DeploymentProgressing) == nil {
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, foundNewReplicaSet, fmt.Sprintf("Found new replica set %q", r.current.Name))
	}
}

func (r *rollout) setRevision(revision string) {
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[revisionAnnotation] = revision
}

// annotate copies the Deployment's annotations and numbers a ReplicaSet. A ReplicaSet that is rolled back to
// gets a new number and keeps its old ones in its history.
func (r *rollout) annotate(rs *appsv1.ReplicaSet, revision int64) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for k, v := range r.d.Annotations {
		if !ownAnnotations[k] {
			rs.Annotations[k] = v
		}
	}
	was, numbered := rs.Annotations[revisionAnnotation]
	n, err := strconv.ParseInt(was, 10, 64)
	if (numbered && was != "" && err != nil) || n >= revision {
		return
	}
	rs.Annotations[revisionAnnotation] = strconv.FormatInt(revision, 10)
	if numbered {
		rs.Annotations[historyAnnotation] = extend(rs.Annotations[historyAnnotation], was)
	}
}

// extend adds a revision to a history, dropping the oldest where it grows too long.
func extend(history, revision string) string {
	if history == "" {
		return revision
	}
	history += "," + revision
	for len(history) > maxHistory {
		_, rest, found := strings.Cut(history, ",")
		if !found {
			break
		}
		history = rest
	}
	return history
}

// annotateSize records the size that a ReplicaSet was scaled for, by which scaling is noticed and shared out.
func (r *rollout) annotateSize(rs *appsv1.ReplicaSet) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredAnnotation] = strconv.Itoa(int(*r.d.Spec.Replicas))
	rs.Annotations[maxAnnotation] = strconv.Itoa(int(*r.d.Spec.Replicas + r.surge))
}

// sizeAnnotation reads what annotateSize wrote.
func sizeAnnotation(rs *replicaSet, name string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[name], 10, 32)
	return int32(n), err == nil && n >= 0
}

// makeNew plans the ReplicaSet for the Deployment's template. Where its name is taken by something else, the
// collision counter is raised instead, and the next round finds another name.
func (r *rollout) makeNew(ref metav1.OwnerReference) {
	hash := templateHash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	name := r.d.Name + "-" + hash
	if room := 253 - 1 - len(hash); len(r.d.Name) > room {
		name = r.d.Name[:room] + "-" + hash
	}
	if loop.ReplicaSets.Get(r.v, r.d.Namespace, name) != nil {
		var n int32
		if r.d.Status.CollisionCount != nil {
			n = *r.d.Status.CollisionCount
		}
		r.d.Status.CollisionCount = new(n + 1)
		return
	}
	template := *r.d.Spec.Template.DeepCopy()
	template.Labels = withHash(template.Labels, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withHash(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.d.Namespace, Name: name, Labels: maps.Clone(template.Labels), OwnerReferences: []metav1.OwnerReference{ref}},
		Spec:       appsv1.ReplicaSetSpec{Replicas: new(int32), MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	*rs.Spec.Replicas = r.room(0)
	revision := r.nextRevision()
	r.annotate(rs, revision)
	r.annotateSize(rs)
	r.create = rs
	r.setRevision(strconv.FormatInt(revision, 10))
	if hasDeadline(r.d) {
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, newReplicaSet, fmt.Sprintf("Created new replica set %q", name))
	}
}

func withHash(labels map[string]string, hash string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[hashLabel] = hash
	return out
}

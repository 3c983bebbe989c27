package sim

import (
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// create admits a new object: namespace, defaults, and what every API server gives an object.
func (a *api) create(r request, cur events.State) (*write, error) {
	if cur.Exists() {
		return nil, fmt.Errorf("%s exists: %w", r.Key, events.ErrConflict)
	}
	if ns := r.Key.Namespace; ns != "" {
		state := a.w.record.now(loop.Namespaces.Key("", ns))
		if !state.Exists() {
			return nil, fmt.Errorf("namespace %s: %w", ns, errNotFound)
		}
		if parse(state.Object).meta()["deletionTimestamp"] != nil {
			return nil, fmt.Errorf("%s: %w", ns, errTerminating)
		}
	}
	is := parse(encode(r.Object))
	a.w.uids++
	meta := is.meta()
	meta["name"], meta["uid"] = r.Key.Name, fmt.Sprintf("%s-%d", kindOf(r.Key), a.w.uids)
	meta["creationTimestamp"] = stamp(a.w.clock.now)
	delete(meta, "resourceVersion")
	if r.Key.Namespace != "" {
		meta["namespace"] = r.Key.Namespace
	}
	if _, has := is["spec"]; has && r.Key.Resource != "services" && r.Key.Resource != "nodes" && r.Key.Resource != "namespaces" {
		meta["generation"] = float64(1)
	}
	a.admit(r.Key, is)
	return &write{class: events.Desired, verb: events.Created, object: is, withStatus: true, uid: meta.text("uid"), node: nodeOf(r.Key, is)}, nil
}

// admit gives an object what admission and defaulting would. Workloads come with their defaults already.
func (a *api) admit(key events.Key, is object) {
	switch key.Resource {
	case "pods":
		is.set("status", object{"phase": "Pending", "qosClass": "Burstable"})
		tolerations := is.spec().list("tolerations")
		for _, taint := range []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} {
			tolerations = append(tolerations, object{"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": float64(300)}.plain())
		}
		is.sub("spec")["tolerations"] = tolerations
	case "nodes":
		is.sub("spec")["taints"] = []any{object{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}.plain()}
	case "namespaces":
		is.sub("spec")["finalizers"] = []any{"kubernetes"}
		is.set("status", object{"phase": "Active"})
	case "services":
		is.sub("spec")["clusterIP"] = fmt.Sprintf("10.96.0.%d", a.w.uids%250+1)
	}
}

// delete removes an object, or marks it where it ends gracefully or has finalizers.
func (a *api) delete(e loop.Effect, cur events.State, was object) (*write, error) {
	if e.UID != "" && string(e.UID) != cur.UID {
		return nil, fmt.Errorf("%s has another uid: %w", e.Key, events.ErrConflict)
	}
	if e.ResourceVersion != "" && e.ResourceVersion != cur.Revision.String() {
		return nil, fmt.Errorf("%s is at revision %d, not %s: %w", e.Key, cur.Revision, e.ResourceVersion, events.ErrConflict)
	}
	is := was.clone()
	meta := is.meta()
	grace := graceOf(e, was)
	finalizers := meta.list("finalizers")
	switch e.Propagation {
	case "Foreground":
		finalizers = withElement(finalizers, "foregroundDeletion")
	case "Orphan":
		finalizers = withElement(finalizers, "orphan")
	}
	if len(finalizers) > 0 {
		meta["finalizers"] = finalizers
	}
	if e.Key.Resource == "namespaces" && len(is.spec().list("finalizers")) > 0 {
		is.set("status", object{"phase": "Terminating"})
		finalizers = append(finalizers, "kubernetes")
	}
	if grace == 0 && len(finalizers) == 0 {
		return deletion(cur, was), nil
	}
	marked := was.meta()["deletionTimestamp"] != nil
	if marked && was.meta().number("deletionGracePeriodSeconds") <= float64(grace) && same(was, is) {
		return nil, nil
	}
	if !marked || was.meta().number("deletionGracePeriodSeconds") > float64(grace) {
		meta["deletionTimestamp"] = stamp(a.w.clock.now.Add(time.Duration(grace) * time.Second))
		meta["deletionGracePeriodSeconds"] = float64(grace)
	}
	if !marked && meta["generation"] != nil {
		meta["generation"] = meta.number("generation") + 1
	}
	status := !same(was["status"], is["status"])
	verb := events.Verb("deletion-requested")
	if e.Key.Resource == "pods" {
		verb = "termination-requested"
	}
	return &write{class: events.Desired, verb: verb, object: is, withStatus: status, whole: status, uid: cur.UID, node: nodeOf(e.Key, is)}, nil
}

// graceOf is how many seconds a pod has to end, by upstream's rules; 0 for everything else.
func graceOf(e loop.Effect, was object) int64 {
	if e.Key.Resource != "pods" {
		return 0
	}
	phase := was.read("status").text("phase")
	if was.spec().text("nodeName") == "" || phase == "Succeeded" || phase == "Failed" {
		return 0
	}
	if e.GracePeriod != nil {
		return max(*e.GracePeriod, 0)
	}
	if seconds, given := was.spec()["terminationGracePeriodSeconds"].(float64); given {
		return int64(seconds)
	}
	return 30
}

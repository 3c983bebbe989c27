package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	coordv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
)

// leaseDuration is how long a heartbeat holds, in seconds.
const leaseDuration = 40

// heartbeat renews the node's lease on the volatile log. The log itself says what the newest lease is; nothing is
// remembered but that.
func (a *Agent) heartbeat(ctx context.Context) error {
	tick := time.NewTicker(a.o.Heartbeat)
	defer tick.Stop()
	failing := false
	for {
		err := a.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			a.log.Warn("heartbeat failed, trying on", events.LogError, err)
			failing = true
		case err == nil && failing:
			a.log.Info("heartbeat works again")
			failing = false
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(a.o.Heartbeat / 5)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-again:
		}
	}
}

// beat appends one renewal, twice at most if somebody else wrote the lease meanwhile.
func (a *Agent) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.Heartbeat)
	defer cancel()
	err := a.renew(ctx)
	if errors.Is(err, events.ErrConflict) {
		err = a.renew(ctx)
	}
	return err
}

func (a *Agent) renew(ctx context.Context) error {
	subject := events.Subject{Class: events.Desired, Key: events.Key{Group: "coordination.k8s.io", Resource: "leases",
		Namespace: v1.NamespaceNodeLease, Name: a.o.NodeName}}
	now := time.Now()
	lease := &coordv1.Lease{}
	verb, cursor := events.Created, events.Sequence(0)
	last, err := a.o.Volatile.LastOn(ctx, subject.AnyNode())
	switch {
	case errors.Is(err, events.ErrNotFound):
	case err != nil:
		return fmt.Errorf("reading the lease: %w", err)
	default:
		cursor = last.Sequence
		if !last.IsDeletion() && json.Unmarshal(last.Object, lease) == nil && lease.UID != "" {
			verb = events.Updated
		} else {
			lease = &coordv1.Lease{}
		}
	}
	if verb == events.Created {
		lease.ObjectMeta = metav1.ObjectMeta{Name: a.o.NodeName, Namespace: v1.NamespaceNodeLease, UID: types.UID(uuid.NewString()), CreationTimestamp: metav1.NewTime(now.Truncate(time.Second))}
	}
	node, err := a.state(a.nodeKey())
	if err != nil {
		return err
	}
	if node.Exists() { // the lease goes with it
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1.SchemeGroupVersion.Version, Kind: "Node", Name: a.o.NodeName, UID: types.UID(node.UID)}}
	}
	lease.TypeMeta = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}
	lease.ResourceVersion = ""
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != a.o.NodeName {
		holder, duration := a.o.NodeName, int32(leaseDuration)
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &holder, &duration
	}
	renewed := metav1.NewMicroTime(now)
	lease.Spec.RenewTime = &renewed
	object, err := json.Marshal(lease)
	if err != nil {
		return err
	}
	_, err = a.o.Volatile.Append(ctx, events.Entry{Expect: events.ExpectClass(subject, cursor), Event: events.Event{
		ID: uuid.NewString(), Subject: subject, Type: events.TypeOf("lease", verb), Source: "agent/" + a.o.NodeName, Actor: a.actor(),
		Time: now, UID: string(lease.UID), Object: object}})
	if err != nil {
		return fmt.Errorf("renewing the lease: %w", err)
	}
	return nil
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

package reconcilers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/gateway"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers"
	"github.com/orlog-io/orlog/services/scheduler"
)

// controlPlane is a whole one on a durable log: gateway, scheduler and reconcilers, with nodes that only say
// what a real one would.
type controlPlane struct {
	t             *testing.T
	log, volatile events.Log
	store         *projections.Store
	config        *rest.Config
	client        kubernetes.Interface
	ctx           context.Context
	running       sync.WaitGroup // on ctx
	following     sync.WaitGroup // outlives what reads what they fold
}

func newControlPlane(t *testing.T) *controlPlane {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	follow, unfollow := context.WithCancel(context.Background())
	c := &controlPlane{t: t, ctx: ctx}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dir, "nats"), Port: -1})
	c.must(err)
	t.Cleanup(server.Shutdown)
	conn, err := jetstream.Connect(ctx, jetstream.Options{URL: server.URL(), Name: "test"})
	c.must(err)
	t.Cleanup(conn.Close)
	c.log, err = conn.Log(ctx)
	c.must(err)
	c.volatile, err = conn.Volatile(ctx)
	c.must(err)
	open := func(o projections.Options, log events.Log) *projections.Store {
		o.InMemory = true
		s, err := projections.Open(t.TempDir(), o)
		c.must(err)
		t.Cleanup(func() { c.must(s.Close()) })
		c.following.Go(func() {
			if err := s.Follow(follow, log); err != nil {
				c.t.Errorf("follower: %v", err)
			}
		})
		return s
	}
	history, volatile := open(projections.Options{History: true}, c.log), open(projections.Options{}, c.volatile)
	c.store = open(projections.Options{}, c.log)
	forScheduler := open(projections.Options{}, c.log)
	t.Cleanup(func() { cancel(); c.running.Wait(); unfollow(); c.following.Wait() })
	g, err := gateway.New(ctx, gateway.Options{DataDir: dir, Listen: "127.0.0.1:0", Log: c.log, Volatile: c.volatile, Store: history, VolatileStore: volatile, Logger: logger})
	c.must(err)
	c.run("gateway", func() error { return g.Run(ctx) })
	<-g.Ready()
	c.run("scheduler", func() error {
		return scheduler.Run(ctx, scheduler.Options{Store: forScheduler, Log: c.log, Rest: g.LoopbackConfig(), Logger: logger})
	})
	c.run("reconcilers", func() error {
		return reconcilers.Run(ctx, reconcilers.Options{Store: c.store, VolatileStore: volatile, Log: c.log, Volatile: c.volatile,
			Rest: g.LoopbackConfig(), RootCA: []byte("bundle"), Logger: logger})
	})
	path := filepath.Join(dir, "admin.kubeconfig")
	c.must(g.WriteKubeconfig(path, gateway.AdminUser, gateway.MastersGroup))
	c.config, err = clientcmd.BuildConfigFromFlags("", path)
	c.must(err)
	c.config.QPS = -1
	c.client, err = kubernetes.NewForConfig(c.config)
	c.must(err)
	return c
}

func (c *controlPlane) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *controlPlane) run(name string, f func() error) {
	c.running.Go(func() {
		if err := f(); err != nil && c.ctx.Err() == nil {
			c.t.Errorf("%s: %v", name, err)
		}
	})
}

// addNode registers a node and lets it answer for its pods.
func (c *controlPlane) addNode(name string) {
	c.t.Helper()
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("250")}
	_, err := c.client.CoreV1().Nodes().Create(c.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Allocatable: room, Capacity: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}}}, metav1.CreateOptions{})
	c.must(err)
	sub, err := c.log.Subscribe(c.ctx, 1, "orlog.desired.core.pods.*.*."+name)
	c.must(err)
	c.run("node", func() error {
		for {
			got, err := sub.Next(c.ctx)
			if err != nil {
				return err
			}
			for _, e := range got {
				if err := c.answer(name, e); err != nil {
					return err
				}
			}
		}
	})
}

// answer reports a pod that has come as running and ready, and one that is to go as stopped.
func (c *controlPlane) answer(node string, e events.Event) error {
	if e.IsDeletion() {
		return nil
	}
	var p corev1.Pod
	if err := json.Unmarshal(e.Object, &p); err != nil {
		return err
	}
	ip := fmt.Sprintf("10.244.%d.%d", e.Sequence/250%250, e.Sequence%250+1)
	ready, phase, verb := corev1.ConditionTrue, corev1.PodRunning, events.Verb("started")
	if p.DeletionTimestamp != nil {
		ready, phase, verb = corev1.ConditionFalse, corev1.PodFailed, "stopped"
	}
	now := metav1.Now()
	var ended []corev1.ContainerStatus
	if p.Spec.RestartPolicy != corev1.RestartPolicyAlways && p.DeletionTimestamp == nil {
		ready, phase, verb = corev1.ConditionFalse, corev1.PodSucceeded, "stopped"
		ended = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: now}}}}
	}
	status := corev1.PodStatus{Phase: phase, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now, ContainerStatuses: ended, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: ready, LastTransitionTime: now}}}
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": e.UID}, "status": status})
	if err != nil {
		return err
	}
	why := events.CauseOf(e)
	_, err = c.log.Append(c.ctx, events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Observed, Key: e.Subject.Key, Node: node},
		Type: events.TypeOf("pod", verb), Source: "agent/" + node, Actor: "system:node:" + node, UID: e.UID, Time: time.Now(), Object: b,
		Cause: why.Sequence, Correlation: why.Correlation}})
	return err
}

// eventually waits for a condition on the projection, looking whenever it changes.
func (c *controlPlane) eventually(what string, holds func(v *loop.View) bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	w := c.store.Watch(c.store.Position(), projections.Selector{})
	defer w.Close()
	for {
		now := c.store.Now()
		v := loop.NewView(loop.ReaderOf(now), nil, nil, events.Cause{})
		ok := holds(v)
		now.Close()
		if ok {
			return time.Since(began)
		}
		if _, err := w.Next(ctx); err != nil {
			c.t.Fatalf("%s: still not so: %v", what, errors.Join(err, v.Err()))
		}
	}
}

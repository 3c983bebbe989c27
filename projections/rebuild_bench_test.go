package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// A pod as the API server stores it, about 1.5 KB; %[1]d is its number.
const podTemplate = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-6d4cf56db6-%06[1]d","generateName":"web-6d4cf56db6-","namespace":"shop","uid":"%[2]s",` +
	`"generation":1,"creationTimestamp":"2026-11-20T14:05:00Z","labels":{"app":"web","pod-template-hash":"6d4cf56db6"},` +
	`"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-6d4cf56db6","uid":"7b1f4a5e-53e0-4b43-8f7e-1d2a3c4b5d6e","controller":true,"blockOwnerDeletion":true}],` +
	`"managedFields":[{"manager":"orlogd","operation":"Update","apiVersion":"v1","time":"2026-11-20T14:05:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{},` +
	`"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"7b1f4a5e\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},` +
	`"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{}}},"f:restartPolicy":{},"f:schedulerName":{}}}}]},` +
	`"spec":{"volumes":[{"name":"kube-api-access-x7z2p","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},` +
	`{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}}],"defaultMode":420}}],"containers":[{"name":"web","image":"registry.example/shop/web:1.4.2",` +
	`"resources":{"requests":{"cpu":"10m","memory":"16Mi"}},"volumeMounts":[{"name":"kube-api-access-x7z2p","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],` +
	`"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,` +
	`"dnsPolicy":"ClusterFirst","serviceAccountName":"default",%[3]s"securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true}%[4]s}`

const statusTemplate = `{"phase":"Running","conditions":[{"type":"PodReadyToStartContainers","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-11-20T14:05:01Z"},` +
	`{"type":"Initialized","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-11-20T14:05:01Z"},{"type":"Ready","status":"%[2]s","lastProbeTime":null,` +
	`"lastTransitionTime":"2026-11-20T14:05:02Z"},{"type":"PodScheduled","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-11-20T14:05:00Z"}],"hostIP":"10.0.0.1",` +
	`"podIP":"10.42.0.%[1]d","podIPs":[{"ip":"10.42.0.%[1]d"}],"startTime":"2026-11-20T14:05:00Z","containerStatuses":[{"name":"web","state":{"running":{"startedAt":"2026-11-20T14:05:02Z"}},` +
	`"lastState":{},"ready":%[3]t,"restartCount":0,"image":"registry.example/shop/web:1.4.2","imageID":"sha256:0b1c","containerID":"orlog://5a6b","started":true}]}`

// podHistory is what a pod's life leaves on the log: created, its status prepared, bound, started, ready, now and
// then changed by a person, at last terminated and deleted; n events of pods whose lives overlap by 500.
func podHistory(n int) []events.Event {
	out := make([]events.Event, 0, n)
	lives := [][]int{}
	for pod := 0; len(out) < n; pod++ {
		if lives = append(lives, []int{pod, 0}); len(lives) > 500 {
			lives = lives[1:]
		}
		for i := 0; i < len(lives) && len(out) < n; i += 71 {
			life := lives[len(lives)-1-i]
			out = append(out, lifeEvent(events.Sequence(len(out)+1), life[0], life[1]))
			life[1]++
		}
	}
	return out
}

func lifeEvent(seq events.Sequence, pod, age int) events.Event {
	uid := fmt.Sprintf("2f6c1d8e-0000-4000-8000-%012d", pod)
	node := "node-1"
	e := events.Event{Sequence: seq, Stored: time.Unix(int64(seq), 0).UTC(), ID: fmt.Sprintf("event-%024d", seq), Source: "agent/node-1", Actor: "system:node:node-1",
		Time: time.Unix(int64(seq), 123456789), UID: uid, Cause: max(seq-1, 1), Correlation: 1,
		Subject: events.Subject{Class: events.Observed, Key: events.Key{Resource: "pods", Namespace: "shop", Name: fmt.Sprintf("web-6d4cf56db6-%06d", pod)}, Node: node}}
	desired := func(verb events.Verb, node, more, status string) {
		e.Subject.Class, e.Subject.Node, e.Source, e.Actor = events.Desired, node, "gateway", "system:serviceaccount:kube-system:replicaset-controller"
		e.Type = events.TypeOf("Pod", verb)
		e.Object = fmt.Appendf(nil, podTemplate, pod, uid, more, status)
	}
	observed := func(verb events.Verb, ready string) {
		e.Type = events.TypeOf("Pod", verb)
		e.Object = fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":%s}`, uid, fmt.Sprintf(statusTemplate, pod%250, ready, ready == "True"))
		e.Changes = json.RawMessage(`[{"op":"test","path":"/status/phase","value":"Pending"},{"op":"replace","path":"/status/phase","value":"Running"}]`)
	}
	switch age {
	case 0:
		desired(events.Created, "", "", `,"status":{"phase":"Pending","qosClass":"Burstable"}`)
	case 1:
		desired("bound", node, `"nodeName":"node-1",`, "")
		e.Source, e.Actor, e.Reason = "scheduler", "system:kube-scheduler", `{"feasible":3,"evaluated":3,"scores":{"node-1":81,"node-2":64}}`
		e.Changes = json.RawMessage(`[{"op":"add","path":"/spec/nodeName","value":"node-1"}]`)
	case 2:
		observed("started", "False")
	case 3:
		observed("ready", "True")
	case 6:
		desired(events.Deleted, node, `"nodeName":"node-1",`, `,"status":`+fmt.Sprintf(statusTemplate, pod%250, "False", false))
	case 4:
		desired("labelled", node, `"nodeName":"node-1",`, "")
	default:
		observed("unready", "False")
	}
	return e
}

// BenchmarkRebuild builds a projection from nothing out of the log of an embedded server, and for comparison
// out of memory: the difference is what reading the log takes.
func BenchmarkRebuild(b *testing.B) {
	const n = 40000
	all := podHistory(n)
	var bytesAll int
	for _, e := range all {
		bytesAll += len(e.Object) + len(e.Changes)
	}
	log := filledLog(b, all)
	for _, keep := range []bool{true, false} {
		run := func(name string, build func(s *Store)) {
			b.Run(fmt.Sprintf("%s/history=%t", name, keep), func(b *testing.B) {
				b.SetBytes(int64(bytesAll))
				cpu := cpuTime(b)
				for b.Loop() {
					s := open(b, b.TempDir(), Options{History: keep})
					build(s)
					if s.Position() != n {
						b.Fatalf("built to %d of %d", s.Position(), n)
					}
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N*n), "cpu-us/event")
			})
		}
		run("log", func(s *Store) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- s.Follow(ctx, log) }()
			if err := s.WaitFor(ctx, n); err != nil {
				b.Fatal(err)
			}
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
		run("memory", func(s *Store) {
			for at := 0; at < n; at += 500 {
				if err := s.Apply(all[at:min(at+500, n)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// filledLog is the log of an embedded server that holds the events.
func filledLog(b *testing.B, all []events.Event) events.Log {
	b.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: b.TempDir(), Port: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Shutdown)
	conn, err := jetstream.Connect(b.Context(), jetstream.Options{URL: server.URL()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	log, err := conn.Log(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for len(all) > 0 {
		entries := make([]events.Entry, min(len(all), 500))
		for i := range entries {
			e := all[i]
			e.Object, e.Changes = bytes.Clone(e.Object), bytes.Clone(e.Changes)
			entries[i] = events.Entry{Event: e}
		}
		if _, err := log.Append(b.Context(), entries...); err != nil {
			b.Fatal(err)
		}
		all = all[len(entries):]
	}
	return log
}

package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 20, 14, 5, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"now":                       now,
		"2026-11-20T14:05:00Z":      now,
		"2026-11-20T15:05:00+01:00": now,
		"2026-11-20T14:05:00":       now,
		"2026-11-20T14:05":          now,
		"2026-11-20":                time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
		"15m":                       now.Add(-15 * time.Minute),
		"-2h30m":                    now.Add(-150 * time.Minute),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "yesterday", "2026", "14:05", "12"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestParseCause(t *testing.T) {
	for text, want := range map[string][2]events.Sequence{"7": {7, 7}, "7;3": {7, 3}, " 7 ; 7 ": {7, 7}} {
		if cause, correlation, err := parseCause(text); err != nil || cause != want[0] || correlation != want[1] {
			t.Errorf("%q: %d %d %v", text, cause, correlation, err)
		}
	}
	for _, text := range []string{"", "0", "x", "7;", "7;0", "3;7", "-1", "7;3;1"} {
		if _, _, err := parseCause(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestTimeless(t *testing.T) {
	for path, want := range map[string]bool{
		"/api": true, "/api/": true, "/api/v1": true, "/api/v1/pods": false, "/apis": true, "/apis/apps/v1": true,
		"/apis/apps/v1/deployments": false, "/openapi/v3/apis/apps/v1": true, "/version": true, "/orlog/v1/history": false, "/": false,
	} {
		if timeless(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

func TestChanges(t *testing.T) {
	patch, err := events.Diff(json.RawMessage(`{"a":1,"b":2,"c":null}`), json.RawMessage(`{"a":3,"d":4,"c":5}`))
	if err != nil {
		t.Fatal(err)
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	want := []change{{"/a", raw("1"), raw("3")}, {"/b", raw("2"), nil}, {"/c", raw("null"), raw("5")}, {"/d", nil, raw("4")}}
	if got := changes(patch); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestPatternOf(t *testing.T) {
	for want, q := range map[string]events.Key{
		"":                                    {},
		"orlog.*.core.pods.*.*.*":             {Resource: "pods"},
		"orlog.*.apps.deployments.a.b%2Ec.*":  {Group: "apps", Resource: "deployments", Namespace: "a", Name: "b.c"},
		"orlog.*.demo_io.widgets.default.*.*": {Group: "demo.io", Resource: "widgets", Namespace: "default"},
	} {
		if got, err := patternOf(query{Key: q}, ""); err != nil || got != want {
			t.Errorf("%v: %q, %v", q, got, err)
		}
	}
	if got, err := patternOf(query{}, "observed"); err != nil || got != "orlog.observed.*.*.*.*.*" {
		t.Errorf("class: %q, %v", got, err)
	}
	if _, err := patternOf(query{Key: events.Key{Name: "x"}}, ""); err == nil {
		t.Error("a name without a resource was accepted")
	}
}

func TestNodePorts(t *testing.T) {
	now, at, inUse := time.Unix(0, 0), events.Sequence(1), servicePorts{30002: true}
	clock, volatile := func() time.Time { return now }, memlog.NewWithClock(func() time.Time { return now })
	n := &nodePorts{base: 30000, size: 4, reserved: 2, now: clock, claims: map[int]time.Time{}, others: newPortClaims(volatile, clock),
		catchUp:  func(context.Context) error { return nil },
		position: func() events.Sequence { return at }, services: func() (servicePorts, error) { return inUse, nil }}
	if ok, err := n.Allocate(2); ok || err != nil {
		t.Error("a port of a service was given away", err)
	}
	var given []int
	for range 3 {
		offset, ok, err := n.AllocateNext()
		if !ok || err != nil {
			t.Fatal(offset, ok, err)
		}
		given = append(given, offset)
	}
	if slices.Sort(given[1:]); !slices.Equal(given, []int{3, 0, 1}) {
		t.Error("the upper part comes first, then the reserved one:", given)
	}
	if _, ok, _ := n.AllocateNext(); ok || n.Free() != 0 {
		t.Error("full, yet", n.Free())
	}
	// One request failed, one became a service, the third never returned.
	if err := n.Release(3); err != nil {
		t.Fatal(err)
	}
	inUse, at = servicePorts{30002: true, 30000: true}, 2
	if !n.Has(0) || !n.Has(1) || n.Has(3) {
		t.Error("taken:", n.Has(0), n.Has(1), n.Has(3))
	}
	now, at = now.Add(2*claimFor), 3
	if !n.Has(0) || n.Has(1) {
		t.Error("a claim outlived its time, or a service lost its port")
	}
	inUse, at = servicePorts{}, 4
	if n.Has(0) || n.Has(2) {
		t.Error("ports of deleted services are still taken")
	}
}

// TestNodePortsOfTwoGateways: what one gateway claims the other does not get, until a Service holds it, it is
// given back, or its time is over.
func TestNodePortsOfTwoGateways(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	volatile, at, inUse := memlog.NewWithClock(clock), events.Sequence(1), servicePorts{}
	gateway := func(catchUp func()) *nodePorts {
		return &nodePorts{base: 30000, size: 4, now: clock, claims: map[int]time.Time{}, others: newPortClaims(volatile, clock),
			catchUp:  func(context.Context) error { catchUp(); return nil },
			position: func() events.Sequence { return at }, services: func() (servicePorts, error) { return maps.Clone(inUse), nil }}
	}
	allocate := func(n *nodePorts, offset int, want bool) {
		t.Helper()
		if got, err := n.Allocate(offset); err != nil || got != want {
			t.Fatalf("allocate %d: %v, %v; want %v", offset, got, err, want)
		}
	}
	one := gateway(func() {})
	two := gateway(func() {})
	allocate(one, 0, true)
	allocate(two, 0, false)
	for range 3 {
		if offset, ok, err := two.AllocateNext(); err != nil || !ok || offset == 0 {
			t.Fatal("another's claim was given away", offset, ok, err)
		}
	}
	if _, ok, err := one.AllocateNext(); ok || err != nil {
		t.Fatal("all are claimed, yet one was given", err)
	}
	if err := two.Release(1); err != nil {
		t.Fatal(err)
	}
	allocate(one, 1, true)

	// A claim that became a Service is given back, and the Service holds the port from then on.
	inUse[30001], at = true, 2
	if err := one.settle(t.Context(), servicePorts{30001: true}); err != nil {
		t.Fatal(err)
	}
	allocate(two, 1, false)
	delete(inUse, 30001)
	at = 3
	allocate(two, 1, true)

	// A gateway that is behind looks again once it has the claim.
	late := gateway(func() { inUse[30003], at = true, 4 })
	now = now.Add(claimFor + time.Second)
	allocate(late, 3, false)
	delete(inUse, 30003)
	at = 5
	allocate(two, 3, true)
}

func TestGatewayLeases(t *testing.T) {
	client, now := fake.NewSimpleClientset(), time.Unix(1000, 0)
	gateway := func(skew time.Duration) *gatewayLeases {
		l := newGatewayLeases(client)
		l.now = func() time.Time { return now.Add(skew) }
		return l
	}
	one, two := gateway(0), gateway(time.Hour) // clocks need not agree
	fails := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lists := func(l *gatewayLeases, want ...string) {
		t.Helper()
		if got, err := l.ListLeases(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("gateways %v, %v; want %v", got, err, want)
		}
	}
	fails(one.UpdateLease("198.51.100.1"))
	fails(two.UpdateLease("198.51.100.2"))
	lists(one, "198.51.100.1", "198.51.100.2")
	lists(two, "198.51.100.1", "198.51.100.2")
	now = now.Add(10 * time.Second)
	fails(one.UpdateLease("198.51.100.1"))
	lists(one, "198.51.100.1", "198.51.100.2")
	now = now.Add(10 * time.Second) // the second fell silent
	fails(one.UpdateLease("198.51.100.1"))
	lists(one, "198.51.100.1")
	fails(two.UpdateLease("198.51.100.2"))
	lists(one, "198.51.100.1", "198.51.100.2")
	fails(two.RemoveLease("198.51.100.2"))
	fails(two.RemoveLease("198.51.100.2"))
	lists(one, "198.51.100.1")
}

func TestPKI(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	open := func(names ...string) (*pki, []byte) {
		t.Helper()
		p, err := openPKI(dir, names, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p.file(servingName, ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		return p, b
	}
	first, serving := open("localhost", "127.0.0.1")
	cert, _, err := first.client("system:node:a/b", []string{"system:nodes"})
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	again, same := open("localhost")
	if string(again.bundle()) != string(first.bundle()) || string(same) != string(serving) {
		t.Error("opened again, certificates changed")
	}
	if kept, _, err := again.client("system:node:a/b", []string{"system:nodes"}); err != nil || string(kept) != string(cert) {
		t.Error("a young client certificate was replaced", err)
	}
	if other, _, err := again.client("system:node:a/b", []string{"other"}); err != nil || string(other) == string(cert) {
		t.Error("other groups, same certificate", err)
	}
	if _, renamed := open("localhost", "another.host"); string(renamed) == string(serving) {
		t.Error("the serving certificate lacks a new name")
	}
	_, before := open("localhost")
	now = now.Add(leafLife - renewBefore + time.Hour)
	if old, renewed := open("localhost"); string(renewed) == string(before) || string(old.bundle()) != string(first.bundle()) {
		t.Error("an old serving certificate was not renewed, or the authority was")
	}
	if err := os.WriteFile(first.file(caName, ".crt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPKI(dir, nil, time.Now); err == nil {
		t.Error("a damaged authority was accepted")
	}
}

// TestKindFinder holds it to upstream's reading of the same text.
func TestKindFinder(t *testing.T) {
	for _, text := range []string{`{"apiVersion":"v1","kind":"Pod","spec":{"kind":"x"}}`, `{"kind":"Lease","apiVersion":"coordination.k8s.io/v1"}`, `{"apiVersion":"v1"}`, `{}`,
		`{"kind":3}`, `{ "kind" : "Pod", "apiVersion" : "v1" }`, `{"kind":"Pod","apiVersion":"a/b/c"}`, `[]`, ``, `{"kind":"Pod"`} {
		got, err := kindFinder{}.Interpret([]byte(text))
		want, wanted := jsonserializer.DefaultMetaFactory.Interpret([]byte(text))
		if (err == nil) != (wanted == nil) || err == nil && *got != *want {
			t.Errorf("%s: %v, %v; want %v, %v", text, got, err, want, wanted)
		}
	}
}

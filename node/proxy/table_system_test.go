//go:build system

package proxy

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"
)

func TestRepairsTheTable(t *testing.T) {
	h := newHost(t)
	a, b := h.pod("a"), h.pod("b")
	h.start(web(nil, a.ip))
	nft := func(commands string) {
		t.Helper()
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	table := "ip " + h.opts.Table
	serves := func(want string) {
		t.Helper()
		h.eventually(want+" serves", func() bool { s, _, err := call("", service); return err == nil && s == want })
	}
	// Somebody flushed everything: the next change finds out.
	nft("delete table " + table)
	h.give(web(nil, b.ip))
	serves("b")
	// Left by another version: unknown objects, and known ones of another type.
	h.stop()
	h.stop = func() {}
	nft("add chain " + table + " old\nadd rule " + table + " old drop\nadd map " + table + " ancient { type inet_service : verdict; }\n" +
		"add element " + table + " ancient { 80 : goto old }\nadd set " + table + " odd { type ipv4_addr; }")
	h.start(web(nil, a.ip))
	serves("a")
	out, err := exec.Command("nft", "list", "table", "ip", h.opts.Table).Output()
	if err != nil || bytes.Contains(out, []byte("ancient")) || bytes.Contains(out, []byte("odd")) || bytes.Contains(out, []byte("chain old")) {
		t.Errorf("left over (%v):\n%s", err, out)
	}
	h.stop()
	h.stop = func() {}
	nft("delete table " + table + "\nadd table " + table + "\nadd set " + table + " services { type ipv6_addr; }")
	h.start(web(nil, b.ip))
	serves("b")
	// Nothing changes, but it is time.
	h.opts.ResyncEvery = 50 * time.Millisecond
	h.start(web(nil, b.ip))
	nft("delete table " + table)
	serves("b")
}

// The kernel's own nft accepts every transaction of every story.
func TestStoriesOnTheRealThing(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	nft, err := knftables.New(knftables.IPv4Family, "orlog-test-stories")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var prev *Ruleset
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".yaml") {
				continue
			}
			var o objects
			if len(bytes.TrimSpace(f.Data)) > 0 {
				o = parse(t, f.Data)
			}
			next := Compute(testConfig, o.services, o.slices, o.pods)
			tx := nft.NewTransaction()
			difference(tx, prev, next, present{})
			if tx.NumOperations() > 0 {
				if err := nft.Run(t.Context(), tx); err != nil {
					t.Errorf("%s %s: %v", file, f.Name, err)
				}
			}
			prev = next
		}
		tx := nft.NewTransaction()
		tx.Delete(&knftables.Table{})
		if err := nft.Run(context.Background(), tx); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// How long a change takes to become rules where there are many services.
func BenchmarkSync(b *testing.B) {
	o, err := Options{Config: testConfig, Table: "orlog-test-bench"}.complete()
	if err != nil {
		b.Fatal(err)
	}
	p, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Teardown(context.Background())
	for i := range 1000 {
		w := web(func(s *corev1.Service) { s.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", i/250, i%250+1) })
		w.services[0].Name, w.slices[0].Name = fmt.Sprint("web-", i), fmt.Sprint("web-", i)
		w.slices[0].Labels[discoveryv1.LabelServiceName] = w.services[0].Name
		for e := range 10 {
			w.slices[0].Endpoints = append(w.slices[0].Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", i/250, e)}})
		}
		p.Service("default", w.services[0].Name, w.services[0])
		p.EndpointSlice("default", w.slices[0].Name, w.slices[0])
	}
	start := time.Now()
	if err := p.sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "first-ms")
	for i := 0; b.Loop(); i++ {
		p.EndpointSlice("default", "x", web(nil, fmt.Sprintf("10.0.0.%d", i%200)).slices[0])
		s := web(func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.255.1" }).services[0]
		p.Service("default", "x", s)
		if err := p.sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

package proxy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite testdata with what the code does now")

// objects are the input of one step of a story: YAML documents of services, endpoint slices and pods.
type objects struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	pods     []*corev1.Pod
}

func parse(t *testing.T, data []byte) (o objects) {
	t.Helper()
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		var head struct{ Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		var err error
		switch head.Kind {
		case "Service":
			s := new(corev1.Service)
			err = yaml.UnmarshalStrict(doc, s)
			o.services = append(o.services, s)
		case "EndpointSlice":
			s := new(discoveryv1.EndpointSlice)
			err = yaml.UnmarshalStrict(doc, s)
			o.slices = append(o.slices, s)
		case "Pod":
			p := new(corev1.Pod)
			err = yaml.UnmarshalStrict(doc, p)
			o.pods = append(o.pods, p)
		default:
			err = fmt.Errorf("kind %q", head.Kind)
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
	}
	return o
}

var testConfig = Config{Node: "here", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), Mark: 0x4000}

// Each file of testdata is a story: "N.yaml" is what the cluster looks like at step N, "N.nft" what is written then.
// The first step of a story writes the skeleton as well, which is left out except in skeleton.txtar.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { story(t, file) })
	}
}

func story(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	out := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		want[f.Name] = string(f.Data)
	}
	fake := knftables.NewFake(knftables.IPv4Family, "t")
	prev := skeleton(testConfig)
	tx := fake.NewTransaction()
	if file == "testdata/skeleton.txtar" {
		prev = nil
	} else {
		difference(tx, nil, prev, present{})
		if err := fake.Run(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range archive.Files {
		step, ok := strings.CutSuffix(f.Name, ".yaml")
		if !ok {
			continue
		}
		var o objects
		if len(bytes.TrimSpace(f.Data)) > 0 {
			o = parse(t, f.Data)
		}
		next := Compute(testConfig, o.services, o.slices, o.pods)
		tx := fake.NewTransaction()
		difference(tx, prev, next, present{})
		got := strings.ReplaceAll(tx.String(), " ip t ", " ")
		for _, c := range next.Conflicts {
			got += "# conflict: " + c + "\n"
		}
		if err := fake.Run(context.Background(), tx); err != nil { // finds references to what is not there
			t.Errorf("step %s: %v", step, err)
		}
		name := step + ".nft"
		if got != want[name] && !*update {
			t.Errorf("step %s: got:\n%s\nwant:\n%s", step, got, want[name])
		}
		out.Files = append(out.Files, f, txtar.File{Name: name, Data: []byte(got)})
		prev = next
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

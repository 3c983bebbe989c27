package looptest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

var update = flag.Bool("update", false, "write the decisions that were made into the golden files")

// Golden runs every txtar file in a folder against a decider. The comment of a file tells its story; lines
// of it that begin with "key ", "now " or "cause " set those. Objects come from objects.yaml (documents
// separated by ---), in this order; the file "decision" is what must come out.
func Golden(t *testing.T, d loop.Decider, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files in %s: %d found, %v", folder, len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, d, file) })
	}
}

func golden(t *testing.T, d loop.Decider, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorld(t)
	key, cause := settings(t, w, string(a.Comment))
	want := -1
	for i, f := range a.Files {
		switch f.Name {
		case "objects.yaml":
			w.Load(string(f.Data))
		case "decision":
			want = i
		default:
			t.Fatalf("%s: unknown section %q", file, f.Name)
		}
	}
	v := w.View().With(cause)
	got := Print(d.Decide(v, key, w.Now()))
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
	if *update {
		if want < 0 {
			a.Files = append(a.Files, txtar.File{Name: "decision"})
			want = len(a.Files) - 1
		}
		a.Files[want].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want < 0 || got != string(a.Files[want].Data) {
		t.Errorf("decision:\n%s", got)
	}
}

func settings(t *testing.T, w *World, comment string) (key events.Key, cause events.Cause) {
	cause = events.Cause{Sequence: 100, Correlation: 100}
	for line := range strings.Lines(comment) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch name {
		case "key":
			key, err = events.ParseKey(value)
		case "now":
			w.now, err = time.Parse(time.RFC3339, value)
		case "cause":
			cause.Sequence, err = events.ParseSequence(value)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return key, cause
}

// Load puts the objects of a YAML text into the world, in order.
func (w *World) Load(text string) {
	w.t.Helper()
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var o map[string]any
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			w.t.Fatalf("%s: %v", doc, err)
		}
		w.Put(w.KeyOf(o), o)
	}
}

// KeyOf names an object by its apiVersion, kind and metadata.
func (w *World) KeyOf(o map[string]any) events.Key {
	version, _ := o["apiVersion"].(string)
	kind, _ := o["kind"].(string)
	group, _, found := strings.Cut(version, "/")
	if !found {
		group = ""
	}
	resource := strings.ToLower(kind)
	if !strings.HasSuffix(resource, "s") {
		resource += "s"
	}
	meta := metaOf(o)
	name, _ := meta["name"].(string)
	namespace, _ := meta["namespace"].(string)
	return events.Key{Group: group, Resource: resource, Namespace: namespace, Name: name}
}

// Print writes a decision as text.
func Print(d loop.Decision) string {
	var b strings.Builder
	for _, s := range d.Steps {
		if s.AfterSuccess {
			b.WriteString("then\n")
		}
		for _, e := range s.Effects {
			printEffect(&b, e)
		}
	}
	if d.Park {
		b.WriteString("park\n")
	}
	if d.Again > 0 {
		fmt.Fprintf(&b, "again in %s\n", d.Again)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func printEffect(b *strings.Builder, e loop.Effect) {
	fmt.Fprintf(b, "%s %s", e.Verb, e.Key)
	if e.Subresource != "" {
		fmt.Fprintf(b, " %s", e.Subresource)
	}
	if e.UID != "" {
		fmt.Fprintf(b, " uid=%s", e.UID)
	}
	if e.GracePeriod != nil {
		fmt.Fprintf(b, " grace=%ds", *e.GracePeriod)
	}
	if e.Propagation != "" {
		fmt.Fprintf(b, " propagation=%s", e.Propagation)
	}
	b.WriteString("\n")
	switch {
	case e.Patch != nil:
		fmt.Fprintf(b, "  %s\n", e.Patch)
	case e.Entry != nil:
		fmt.Fprintf(b, "  %s on %s\n", e.Entry.Event.Type, e.Entry.Event.Subject)
		printYAML(b, e.Entry.Event.Object)
	case e.Object != nil && e.Verb == loop.UpdateStatus:
		printYAML(b, field(marshal(e.Object), "status"))
	case e.Object != nil:
		printYAML(b, marshal(e.Object))
	}
	if e.Reason != "" {
		fmt.Fprintf(b, "  because %s\n", e.Reason)
	}
}

func marshal(o any) []byte {
	b, err := json.Marshal(o)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

func field(b []byte, name string) []byte {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(b, &o); err != nil {
		return b
	}
	return marshal(map[string]json.RawMessage{name: o[name]})
}

// printYAML leaves out what says nothing: empty objects and nulls.
func printYAML(b *strings.Builder, object []byte) {
	var o any
	if err := json.Unmarshal(object, &o); err != nil {
		fmt.Fprintf(b, "  %s\n", object)
		return
	}
	text, err := yaml.Marshal(prune(o))
	if err != nil {
		text = []byte(err.Error())
	}
	for line := range strings.Lines(string(text)) {
		b.WriteString("  " + line)
	}
}

func prune(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		if list, ok := v.([]any); ok {
			for i := range list {
				list[i] = prune(list[i])
			}
		}
		return v
	}
	for k, x := range m {
		x = prune(x)
		if sub, isMap := x.(map[string]any); x == nil || (isMap && len(sub) == 0 && k != "emptyDir" && k != "podSelector") {
			delete(m, k)
			continue
		}
		m[k] = x
	}
	return m
}

package storage

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/schemas"
)

var rewriteTestdata = flag.Bool("update", false, "write testdata anew")

// TestStatements tells each update in testdata/statements.txtar as an event. A case names the resource, the
// request's subresource ("-": none, "?": not known), and the object before and after; "=>" begins what comes
// out. Whatever the event is, folding it must give the object after.
func TestStatements(t *testing.T) {
	const file = "testdata/statements.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			input, want, _ := strings.Cut(string(f.Data), "=> ")
			got := tell(t, input)
			if *rewriteTestdata {
				archive.Files[i].Data = []byte(input + "=> " + got)
			} else if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	if *rewriteTestdata {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReleasedStatements: what a release tells of an update, every later one does too, by the same type and with
// the same changes: integrators match on them.
func TestReleasedStatements(t *testing.T) {
	b, err := fs.ReadFile(schemas.Released(), "statements.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cases := txtar.Parse(b).Files
	if len(cases) < 40 {
		t.Fatalf("only %d statements were released", len(cases))
	}
	for _, f := range cases {
		input, want, _ := strings.Cut(string(f.Data), "=> ")
		if got := tell(t, input); got != want {
			t.Errorf("%s was released as\n%s\nand is told now as\n%s\nThat breaks who matches on it: keep the type, or write a new one beside it.", f.Name, want, got)
		}
	}
}

func tell(t *testing.T, input string) string {
	t.Helper()
	in := map[string]string{}
	for line := range strings.Lines(input) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		in[name] = strings.TrimSpace(value)
	}
	gr := schema.ParseGroupResource(in["resource"])
	key := events.Key{Group: gr.Group, Resource: gr.Resource, Namespace: "ns", Name: "x"}
	was, is := parse(t, in["was"]), parse(t, in["is"])
	state := events.State{Key: key, UID: was.uid(key), Node: nodeOf(key, was), Object: json.RawMessage(in["was"]), Revision: 3, Created: 3, Desired: 3}
	diff := compare(was, is)
	if !diff.rest && !diff.status {
		return "nothing\n"
	}
	r := rewrite{resource: gr, known: in["subresource"] != "?", subresource: strings.Trim(in["subresource"], "-?"), state: state, was: was, is: is, diff: diff}
	st, withStatus, err := r.statement()
	if err != nil {
		t.Fatal(err)
	}
	e := (&store{resource: gr}).event(t.Context(), st)
	e.Sequence = 4
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	next, changed := events.Fold(state, e)
	if !changed || !sameObject(t, next.Object, []byte(in["is"])) {
		t.Errorf("folding the event (changed: %t) gives\n%s\nwant\n%s", changed, next.Object, in["is"])
	}
	out := fmt.Sprintf("%s %s", st.class, e.Type)
	if withStatus && st.class == events.Desired {
		out += ", with status"
	}
	if st.node != "" {
		out += ", node " + st.node
	}
	out += "\n"
	for _, c := range st.changes {
		out += fmt.Sprintf("   %s %s %s\n", c.Op, c.Path, c.Value)
	}
	return out
}

func parse(t *testing.T, text string) document {
	t.Helper()
	d, err := parseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sameObject compares two objects by meaning; managedFields in any order, and a null status like none.
func sameObject(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y map[string]any
	for _, one := range []struct {
		from []byte
		to   *map[string]any
	}{{a, &x}, {b, &y}} {
		if err := json.Unmarshal(one.from, one.to); err != nil {
			t.Fatal(err)
		}
		if (*one.to)["status"] == nil {
			delete(*one.to, "status")
		}
		meta, _ := (*one.to)["metadata"].(map[string]any)
		managers, _ := meta["managedFields"].([]any)
		set := map[string]bool{}
		for _, m := range managers {
			set[fmt.Sprint(m)] = true
		}
		delete(meta, "managedFields")
		meta["managers"] = set
	}
	return reflect.DeepEqual(x, y)
}

func TestEventCarriesAttribution(t *testing.T) {
	s := &store{resource: schema.GroupResource{Resource: "pods"}}
	st := statement{class: events.Desired, key: events.Key{Resource: "pods", Namespace: "a", Name: "b"}, kind: "pod", verb: "created", uid: "u", object: []byte("{}")}
	e := s.event(WithAttribution(t.Context(), Attribution{Actor: "jo", OnBehalfOf: "ann", Cause: 7, Correlation: 5, Reason: "because", TraceParent: "00-1", Source: "gateway/a"}), st)
	if e.Actor != "jo" || e.OnBehalfOf != "ann" || e.Cause != 7 || e.Correlation != 5 || e.Reason != "because" || e.TraceParent != "00-1" || e.Source != "gateway/a" {
		t.Errorf("attribution is lost: %+v", e)
	}
	e = s.event(t.Context(), st)
	if e.Actor != "system:apiserver" || e.Source != "gateway" || e.ID == "" || time.Since(e.Time) > time.Minute {
		t.Errorf("event without attribution: %+v", e)
	}
}

func TestUIDFallback(t *testing.T) {
	a, b := events.Key{Resource: "pods", Name: "a"}, events.Key{Resource: "pods", Name: "b"}
	first, again := (document{}).uid(a), (document{}).uid(a)
	if first != again || first == (document{}).uid(b) {
		t.Error("want one uid for each key")
	}
	odd := parse(t, `{"metadata":{"uid":"with space\n"}}`)
	if odd.uid(a) != (document{}).uid(a) {
		t.Errorf("uid %q cannot be in a header", odd.uid(a))
	}
	if got := parse(t, `{"metadata":{"uid":"A"}}`).uid(a); got != "A" {
		t.Errorf("uid %q", got)
	}
}

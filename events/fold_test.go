package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the histories give into testdata/fold")

// TestFoldHistories folds the histories in testdata/fold. A history is a txtar file: "<sequence> <class>
// <verb> [uid=...] [node=...]" is an event with its object, the "state" after it what folding it must give.
// go test -run FoldHistories -update writes the states.
func TestFoldHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/fold/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			in, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := &txtar.Archive{Comment: in.Comment}
			var s State
			for _, f := range in.Files {
				if f.Name == "state" {
					continue
				}
				e := parseEvent(t, f)
				var changed bool
				s, changed = Fold(s, e)
				out.Files = append(out.Files, f, txtar.File{Name: "state", Data: renderState(t, s, changed)})
			}
			got := txtar.Format(out)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("folding %s gives another history (go test -run FoldHistories -update, then git diff):\n%s", file, got)
			}
		})
	}
}

func parseEvent(t *testing.T, f txtar.File) Event {
	t.Helper()
	p := strings.Fields(f.Name)
	if len(p) < 3 {
		t.Fatalf("event %q: want <sequence> <class> <verb>", f.Name)
	}
	seq, err := ParseSequence(p[0])
	if err != nil {
		t.Fatal(err)
	}
	e := Event{Sequence: seq, Subject: Subject{Class: Class(p[1]), Key: Key{"", "pods", "default", "web"}}, Type: TypeOf("Pod", Verb(p[2])), UID: "u1",
		Object: bytes.TrimSpace(f.Data)}
	for _, o := range p[3:] {
		switch name, value, _ := strings.Cut(o, "="); name {
		case "uid":
			e.UID = value
		case "node":
			e.Subject.Node = value
		default:
			t.Fatalf("event %q: %q?", f.Name, o)
		}
	}
	return e
}

func renderState(t *testing.T, s State, changed bool) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "exists=%v changed=%v uid=%s node=%s revision=%d created=%d desired=%d observed=%d\n",
		s.Exists(), changed, s.UID, s.Node, s.Revision, s.Created, s.Desired, s.Observed)
	if len(s.Object) > 0 && json.Valid(s.Object) {
		if err := json.Indent(&b, s.Object, "", "  "); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	} else if len(s.Object) > 0 {
		fmt.Fprintf(&b, "not JSON: %s\n", s.Object)
	}
	return b.Bytes()
}

// TestFoldProperties folds random histories and checks what must hold after every event.
func TestFoldProperties(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		var s State
		for seq := Sequence(1); seq <= 40; seq++ {
			e := randomEvent(r, seq)
			before, object := cloneState(s), bytes.Clone(e.Object)
			next, changed := Fold(s, e)
			again, againChanged := Fold(s, e)
			if !reflect.DeepEqual(next, again) || changed != againChanged {
				t.Fatalf("seed %d at %d: folding twice gives two states", seed, seq)
			}
			if !reflect.DeepEqual(s, before) || !bytes.Equal(e.Object, object) {
				t.Fatalf("seed %d at %d: Fold changed its input", seed, seq)
			}
			if broken := foldInvariant(s, e, next, changed); broken != "" {
				t.Fatalf("seed %d at %d (%s %s uid=%s %s): %s\nbefore %+v\nafter  %+v", seed, seq, e.Subject.Class, e.Type, e.UID, e.Object, broken, s, next)
			}
			s = next
		}
	}
}

// foldInvariant says which rule a step breaks, "" where none.
func foldInvariant(prev State, e Event, next State, changed bool) string {
	status := func(s State) string { return string(Member(s.Object, "status")) }
	spec := func(s State) string { return string(Member(s.Object, "spec")) }
	switch {
	case next.Newest() != e.Sequence:
		return "the newest event is not on record"
	case changed != (next.Revision == e.Sequence):
		return "changed and revision disagree"
	case !changed && (!bytes.Equal(prev.Object, next.Object) || prev.Exists() != next.Exists() || prev.UID != next.UID):
		return "the state changed without saying so"
	case next.Exists() && next.Created > next.Revision:
		return "created after its last change"
	case e.Subject.Class == Observed && spec(prev) != spec(next):
		return "a report changed the spec"
	case e.Subject.Class == Observed && changed && e.UID != prev.UID:
		return "a report about another life was taken"
	case e.Subject.Class == Observed && (prev.Created != next.Created || prev.Deleted != next.Deleted || prev.Desired != next.Desired):
		return "a report touched what is not its own"
	case e.IsDeletion() && next.Exists():
		return "deleted, yet it exists"
	case e.Subject.Class == Desired && !e.IsDeletion() && !next.Exists():
		return "desired, yet it does not exist"
	case e.Subject.Class == Desired && !e.IsDeletion() && prev.Exists() && prev.UID == e.UID &&
		Member(e.Object, "status") == nil && Member(e.Object, "metadata") != nil && status(prev) != status(next):
		return "the status did not stay"
	case e.Subject.Class == Desired && !e.IsDeletion() && prev.UID != e.UID && next.Created != e.Sequence:
		return "a new life began without being on record"
	}
	return ""
}

func randomEvent(r *rand.Rand, seq Sequence) Event {
	e := Event{Sequence: seq, Type: TypeOf("Pod", Updated), UID: fmt.Sprint("u", r.IntN(2)),
		Subject: Subject{Class: Desired, Key: Key{"", "pods", "default", "web"}, Node: []string{"", "n1"}[r.IntN(2)]}}
	o := map[string]any{"metadata": map[string]any{"uid": e.UID}}
	if r.IntN(2) == 0 {
		e.Subject.Class, o["status"] = Observed, map[string]any{"phase": r.IntN(100)}
	} else {
		o["spec"] = map[string]any{"n": r.IntN(100)}
		switch r.IntN(8) {
		case 0:
			o["status"] = map[string]any{"phase": r.IntN(100)}
		case 1:
			o["status"] = nil
		case 2, 3:
			e.Type = TypeOf("Pod", Deleted)
		}
	}
	if r.IntN(4) == 0 {
		o["metadata"].(map[string]any)["managedFields"] = []any{map[string]any{"manager": "m", "subresource": "status"}, map[string]any{"manager": "k"}}
	}
	e.Object = mustJSON(o)
	return e
}

func cloneState(s State) State {
	s.Object = bytes.Clone(s.Object)
	return s
}

// FuzzFold: no object, however malformed, keeps Fold from giving a state.
func FuzzFold(f *testing.F) {
	f.Add([]byte(`{"metadata":{"managedFields":[{"subresource":"status"}]},"status":{}}`), []byte(`{"status":null}`), true)
	f.Add([]byte(`{"metadata":null}`), []byte(`[`), false)
	f.Fuzz(func(t *testing.T, first, second []byte, observed bool) {
		a := Event{Sequence: 1, Type: TypeOf("Pod", Created), UID: "u", Subject: Subject{Class: Desired}, Object: first}
		b := a
		b.Sequence, b.Object = 2, second
		if observed {
			b.Subject.Class = Observed
		}
		s, _ := Fold(State{}, a)
		if s, _ = Fold(s, b); s.Newest() != 2 || !s.Exists() {
			t.Fatalf("%+v", s)
		}
	})
}

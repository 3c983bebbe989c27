package change

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

func print(t *testing.T, changes []Change, o Options) string {
	t.Helper()
	fields, err := Fields(changes, o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f.String())
		if f.Minor {
			b.WriteString(" (minor)")
		}
		if f.Bookkeeping() {
			b.WriteString(" (bookkeeping)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string][]byte{}
			for _, f := range a.Files {
				part[f.Name] = f.Data
			}
			var changes []Change
			if err := json.Unmarshal(part["changes.json"], &changes); err != nil {
				t.Fatal(err)
			}
			after, err := Decode(part["after.json"])
			if err != nil {
				t.Fatal(err)
			}
			if got, want := print(t, changes, Options{After: after}), string(part["want"]); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if want, ok := part["without"]; ok {
				if got := print(t, changes, Options{}); got != string(want) {
					t.Errorf("without the object: got\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestSecretsStayHidden(t *testing.T) {
	changes := []Change{{Path: "/data/password", From: raw(`"b2xk"`), To: raw(`"bmV3"`)}, {Path: "/data/user", To: raw(`"bWU="`)},
		{Path: "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", From: raw(`"b2xk"`)}, {Path: "/metadata/labels/a", To: raw(`"b"`)}}
	want := `data.password: *** (changed)
data.user: *** (new)
metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]: *** (removed) (bookkeeping)
metadata.labels.a: b (new)
`
	if got := print(t, changes, Options{Secret: true}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestValues(t *testing.T) {
	long := strings.Repeat("ä", 70)
	for _, c := range []struct {
		value any
		want  string
	}{{"plain", "plain"}, {"", `""`}, {" x", `" x"`}, {"a\nb", `"a\nb"`}, {json.Number("1e3"), "1e3"}, {true, "true"}, {nil, "null"},
		{[]any{"a"}, `["a"]`}, {long, strings.Repeat("ä", 57) + "..."}, {"\x1b[31m", `"\x1b[31m"`}} {
		if got := Value(c.value, shortLength); got != c.want {
			t.Errorf("Value(%#v) = %s, want %s", c.value, got, c.want)
		}
	}
	if got := Value(long, 0); got != long {
		t.Errorf("unbounded: %s", got)
	}
}

func TestReorderedListsAreMinor(t *testing.T) {
	a, b := `[{"name":"x","v":1},{"name":"y"}]`, `[{"name":"y"},{"name":"x","v":1}]`
	want := `spec.list: ["x","y"] -> ["y","x"] (minor)` + "\n"
	if got := print(t, []Change{{Path: "/spec/list", From: raw(a), To: raw(b)}}, Options{}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreadableChange(t *testing.T) {
	if _, err := Fields([]Change{{Path: "/spec", To: raw(`{`)}}, Options{}); err == nil || !strings.Contains(err.Error(), "/spec") {
		t.Errorf("error %v", err)
	}
}

func TestFilter(t *testing.T) {
	field := func(pointer string) Field { return Field{path: plainPath(parsePointer(pointer))} }
	image := Field{path: path{"spec", "template", "spec", "containers", "[web]", "image"}}
	for _, c := range []struct {
		filter string
		field  Field
		want   bool
	}{
		{"spec.replicas", field("/spec/replicas"), true},
		{"/spec/replicas", field("/spec/replicas"), true},
		{"spec", field("/spec/replicas"), true},
		{"spec.replicas", field("/spec"), true},
		{"spec.rep", field("/spec/replicas"), false},
		{"spec.template.spec.containers[web].image", image, true},
		{"spec.template.spec.containers[].image", image, true},
		{"spec.template.spec.containers[*].image", image, true},
		{"spec.template.spec.containers[db].image", image, false},
		{".metadata.annotations[a.b/c]", field("/metadata/annotations/a.b~1c"), true},
	} {
		f, err := ParseFilter(c.filter)
		if err != nil {
			t.Errorf("%q: %v", c.filter, err)
		} else if got := f.Match(c.field); got != c.want {
			t.Errorf("%q matches %s: %v, want %v", c.filter, c.field.Path(), got, c.want)
		}
	}
	for _, bad := range []string{"", ".", "a[b", "a..b"} {
		if _, err := ParseFilter(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	object, err := Decode([]byte(`{"spec":{"replicas":3,"containers":[{"name":"web","image":"web:1"}],"args":["a","b"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"spec.replicas": "spec.replicas: 3 (new)", "spec.containers[web].image": "spec.containers[web].image: web:1 (new)",
		"spec.args[1]": "spec.args[1]: b (new)", "spec.nothing": "", "spec.containers[db]": "", "spec.replicas.x": ""} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		got, found := f.Find(object)
		if found != (want != "") || found && got.String() != want {
			t.Errorf("Find(%s) = %s, %v; want %s", text, got, found, want)
		}
	}
	if !HasIndex("/spec/containers/0/image") || HasIndex("/metadata/labels/0") || HasIndex("/spec/replicas") {
		t.Error("HasIndex")
	}
}

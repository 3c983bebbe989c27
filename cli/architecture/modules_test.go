package architecture

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestDirectDependenciesAreExplained: each direct dependency is named in deploy/DEPENDENCIES.md.
func TestDirectDependenciesAreExplained(t *testing.T) {
	table, err := os.ReadFile("../../deploy/DEPENDENCIES.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || strings.TrimSpace(cells[2]) == "" {
			continue
		}
		group := "" // a row names several modules of one group: "k8s.io/api, apimachinery"
		for name := range strings.SplitSeq(cells[1], ",") {
			name = strings.TrimSpace(name)
			if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
				name = group + name
			} else if group == "" {
				group = name[:strings.LastIndexByte(name, '/')+1]
			}
			explained[name] = true
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range direct(t, mod) {
		if !explained[path] {
			t.Errorf("go.mod requires %s: say in deploy/DEPENDENCIES.md what for, and why this one", path)
		}
		delete(explained, path)
	}
}

// direct are the modules that go.mod requires for the project's own code or runs as tools.
func direct(t *testing.T, mod []byte) []string {
	t.Helper()
	f, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range f.Require {
		if !r.Indirect {
			out = append(out, r.Mod.Path)
		}
	}
	return out
}

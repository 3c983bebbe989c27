package architecture

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/orlog-io/orlog/cli/architecture/purity"
)

// deciding are the packages that fold and decide.
var deciding = []string{"./events", "./services/scheduler", "./services/reconcilers/...", "./node/agent/ladder"}

// wiring are files of deciding packages that do what others decide: they run the loop, and know the time.
var wiring = []string{
	"services/reconcilers/narrator/run.go",
}

// TestDecisionsArePure: no clock, no chance, no input or output, no order of maps where things are decided.
func TestDecisionsArePure(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := packages.Load(&packages.Config{Dir: root, Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles |
		packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo}, deciding...)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) < 20 {
		t.Fatalf("%d packages decide: %v", len(loaded), loaded)
	}
	used := map[string]bool{}
	for _, p := range loaded {
		for _, e := range p.Errors {
			t.Errorf("%s: %v", p.PkgPath, e)
		}
		for _, f := range purity.Check(purity.Package{Fset: p.Fset, Files: p.Syntax, Info: p.TypesInfo}) {
			file, err := filepath.Rel(root, f.At.Filename)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(wiring, file) {
				used[file] = true
				continue
			}
			t.Errorf("%s:%d: %s", file, f.At.Line, f.What)
		}
	}
	for _, file := range wiring {
		if !used[file] {
			t.Errorf("%s is exempt without need: take it off the list", file)
		}
	}
}

package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"
)

// uncounted are folders that start goroutines and whose tests do not look for leaks, with the reason.
var uncounted = map[string]string{
	"cli/orlog-agent": "a main without tests: it waits for the two that it starts",
	"events/logtest":  "a suite: the tests that run it look",
	"deploy/demo/app": "a program without tests: a web server that runs until it is stopped",
}

// TestGoroutinesAreCounted: the tests of every package that starts goroutines look for leaks (goleak).
func TestGoroutinesAreCounted(t *testing.T) {
	starts, counted := map[string]bool{}, map[string]bool{}
	walk(t, func(file string, content []byte) {
		f, err := parser.ParseFile(token.NewFileSet(), file, content, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		dir := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			for _, i := range f.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				counted[dir] = counted[dir] || err == nil && name == "go.uber.org/goleak"
			}
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				starts[dir] = true
			case *ast.CallExpr: // sync.WaitGroup's and errgroup's
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" {
					starts[dir] = true
				}
			}
			return true
		})
	})
	for dir := range starts {
		if !counted[dir] && uncounted[dir] == "" {
			t.Errorf("%s starts goroutines: let its TestMain call goleak.VerifyTestMain", dir)
		}
	}
	for dir := range uncounted {
		if !starts[dir] || counted[dir] {
			t.Errorf("%s is exempt without need: take it off the list", dir)
		}
	}
}

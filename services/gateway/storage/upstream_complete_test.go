package storage

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const upstreamSuite = "k8s.io/apiserver/pkg/storage/testing"

// leftOut are the functions of upstream's suite that are run nowhere here, and why. All of them look into etcd
// (its compaction, or the transformer of its values), or measure.
var leftOut = map[string]string{
	"RunTestKeySchema":                        `creates the key "/pods/", whose name is empty: an event names its object (TestKeySchema is the rest of it)`,
	"RunTestListInconsistentContinuation":     "compacts etcd, then expects 410: our continue tokens never expire (TestVolatileKnowsNoPast has the 410s)",
	"RunTestCompactRevision":                  "compacts etcd",
	"RunTestGuaranteedUpdate":                 "one case has etcd's value transformer call its data stale (TestUpdate has the others)",
	"RunTestTransformationFailure":            "injects a transformer of etcd's values",
	"RunTestGuaranteedUpdateChecksStoredData": "injects a transformer of etcd's values",
	"RunTestListResourceVersionMatch":         "injects a transformer of etcd's values",
	"RunTestWatchError":                       "injects a transformer of etcd's values (see TestWatchOfWhatCannotBeDecoded)",
	"RunWatchErrorIsBlockingFurtherEvents":    "injects a transformer of etcd's values (see TestWatchOfWhatCannotBeDecoded)",
	"RunTestWatchWithUnsafeDelete":            "injects a transformer of etcd's values (see TestWatchOfWhatCannotBeDecoded)",
	"RunBenchmarkStoreListCreate":             "measures; bench_test.go has our figures",
	"RunBenchmarkStoreList":                   "measures; bench_test.go has our figures",
	"RunBenchmarkStoreStats":                  "measures; bench_test.go has our figures",
}

// TestUpstreamIsComplete: every function of upstream's suite, at the version of go.mod, is run or left out for
// a reason; and what a reason points to exists.
func TestUpstreamIsComplete(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", upstreamSuite).Output()
	if err != nil {
		t.Fatalf("finding upstream's source: %v", err)
	}
	suite, _ := scan(t, strings.TrimSpace(string(out)), "*.go")
	declared := slices.DeleteFunc(suite, func(name string) bool { return !strings.HasPrefix(name, "Run") })
	if len(declared) < 50 {
		t.Fatalf("only %d functions in upstream's suite: %v", len(declared), declared)
	}
	ours, used := scan(t, ".", "*_test.go")
	for _, name := range declared {
		run, reason := slices.Contains(used, name), leftOut[name]
		if run == (reason != "") {
			t.Errorf("%s: run: %v; why it is left out: %q", name, run, reason)
		}
	}
	for name, reason := range leftOut {
		if !slices.Contains(declared, name) {
			t.Errorf("%s is left out, but upstream has no such function", name)
		}
		for _, test := range regexp.MustCompile(`\bTest\w+`).FindAllString(reason, -1) {
			if !slices.Contains(ours, test) {
				t.Errorf("%s is left out because of %s, which does not exist", name, test)
			}
		}
	}
	t.Logf("%d functions upstream, %d left out", len(declared), len(leftOut))
}

// scan reads Go files: the functions that they declare, and what they use of upstream's suite.
func scan(t *testing.T, dir, pattern string) (declared, used []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					declared = append(declared, n.Name.Name)
				}
			case *ast.SelectorExpr:
				if from, ok := n.X.(*ast.Ident); ok && from.Name == "storagetesting" {
					used = append(used, n.Sel.Name)
				}
			}
			return true
		})
	}
	return declared, used
}

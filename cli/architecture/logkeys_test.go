package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// logKeys are keys of log lines that have another name everywhere: events.LogObject and the others.
var logKeys = map[string]string{
	"err": "events.LogError", "pod": "events.LogObject, with the object's key", "key": "events.LogObject", "event": "events.LogObject",
	"obj": "events.LogObject", "seq": "events.LogSequence", "position": "events.LogSequence", "trace": "events.LogTrace",
}

// logCalls are the methods of slog.Logger that take a message and attributes, with the place of the message.
var logCalls = map[string]int{"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2}

// TestLogLinesHaveTheSameKeys finds log lines that name the same thing differently. It knows them by their shape: a call
// of a logger's method with a message and pairs.
func TestLogLinesHaveTheSameKeys(t *testing.T) {
	lines := 0
	for _, room := range []string{"events", "projections", "services", "node", "cli"} {
		err := filepath.WalkDir(filepath.Join("..", "..", room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				for _, key := range keysOf(n) {
					lines++
					if want, wrong := logKeys[key]; wrong {
						t.Errorf("%s: key %q in a log line: use %s", set.Position(n.Pos()), key, want)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if lines < 20 {
		t.Errorf("only %d keys of log lines found: the test no longer knows them when it sees them", lines)
	}
}

// keysOf are the literal keys of a log call; none where the node is no log call.
func keysOf(n ast.Node) []string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	at, known := logCalls[method.Sel.Name]
	if !known || !strings.HasSuffix(strings.ToLower(lastName(method.X)), "log") && !strings.HasSuffix(strings.ToLower(lastName(method.X)), "logger") {
		return nil
	}
	var out []string
	for i := at + 1; i < len(call.Args); i++ {
		if literal, ok := call.Args[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if key, err := strconv.Unquote(literal.Value); err == nil {
				out = append(out, key)
				i++ // its value
			}
		}
	}
	return out
}

// lastName is the name of the logger that a method is called on: a.log, o.Logger, logger.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

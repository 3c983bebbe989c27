package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/orlog-io/orlog"

// rooms says which rooms each room may import, besides itself. deploy holds examples and the demo: they
// stand outside, as a user's code would.
var rooms = map[string][]string{
	"schemas":     {},
	"events":      {"schemas"},
	"projections": {"schemas", "events"},
	"services":    {"schemas", "events", "projections"},
	"node":        {"schemas", "events", "projections"},
	"cli":         {"schemas", "events", "projections", "services", "node"},
	"deploy":      {},
}

// onlyImporters says which folders alone may import a module, and what else they are.
var onlyImporters = map[string][]string{
	"github.com/nats-io/":           {"events/jetstream", "deploy/examples"},
	"github.com/cockroachdb/pebble": {"projections"},
	"k8s.io/kubernetes/":            {"services/gateway"},
	"k8s.io/apiserver/":             {"services/gateway"},
	"github.com/spf13/viper":        {"cli"},
}

// banned names say nothing about what is inside.
var banned = []string{"util", "utils", "common", "helpers", "types", "misc"}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listed(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags", "system", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsFlowOneWay(t *testing.T) {
	for _, p := range listed(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		room, _, _ := strings.Cut(path, "/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s stands in no room of the design", path)
			continue
		}
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if own, ok := strings.CutPrefix(imp, module+"/"); ok {
				to, _, _ := strings.Cut(own, "/")
				if to != room && !slices.Contains(allowed, to) {
					t.Errorf("%s imports %s: %s may import only %v", path, own, room, allowed)
				}
				continue
			}
			for prefix, only := range onlyImporters {
				if strings.HasPrefix(imp, prefix) && !slices.ContainsFunc(only, func(o string) bool { return path == o || strings.HasPrefix(path, o+"/") }) {
					t.Errorf("%s imports %s: only %v may", path, imp, only)
				}
			}
		}
	}
}

func TestNoPackageIsNamedAfterNothing(t *testing.T) {
	for _, p := range listed(t) {
		if name := p.ImportPath[strings.LastIndexByte(p.ImportPath, '/')+1:]; slices.Contains(banned, name) {
			t.Errorf("%s: name the package after what it is about", p.ImportPath)
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range listed(t) {
		dir := filepath.Join("..", "..", strings.TrimPrefix(p.ImportPath, module+"/"))
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := false
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || bytes.Contains(b, []byte("\n// Package ")) || bytes.HasPrefix(b, []byte("// Package ")) ||
				bytes.HasPrefix(b, []byte("// Command ")) || bytes.Contains(b, []byte("\n// Command "))
		}
		if !documented {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"services", "events", "projections", "node", "cli", "schemas", "deploy", "go.mod", "go.sum", "Taskfile.yml", "README.md", "LICENSE", "bin"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

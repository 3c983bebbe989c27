package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the commands print into the golden files")

// TestGolden runs the command lines in testdata/*.txtar against what their file records of a cluster.
func TestGolden(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			g := &recording{objects: map[string]json.RawMessage{}}
			for _, f := range a.Files {
				if moment, ok := strings.CutPrefix(f.Name, "object "); ok {
					g.objects[moment] = f.Data
				}
				if f.Name == "entries" {
					for line := range strings.Lines(string(f.Data)) {
						var e entry
						if err := json.Unmarshal([]byte(line), &e); err != nil {
							t.Fatalf("entries: %v in %s", err, line)
						}
						e.Time = testNow.Add(time.Duration(e.Sequence)*time.Minute - time.Hour)
						g.entries, g.last = append(g.entries, e), e.Sequence
					}
				}
			}
			kubeconfig := serve(t, g)
			for i, f := range a.Files {
				line, ok := strings.CutPrefix(f.Name, "orlog ")
				if !ok {
					continue
				}
				got, _ := orlog(t, kubeconfig, splitWords(line)...)
				if *update {
					a.Files[i].Data = []byte(got)
				} else if got != string(f.Data) {
					t.Errorf("orlog %s\n%s\nwant\n%s", line, got, f.Data)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// splitWords splits a command line at blanks outside single quotes.
func splitWords(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

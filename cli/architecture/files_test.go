package architecture

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// longest is how many lines a file may have: one idea fits.
const longest = 400

// longer are files that are longer than that, and why they are better whole.
var longer = map[string]string{}

// TestFilesAreShort: a file that grows beyond one idea is split, or says here why not.
func TestFilesAreShort(t *testing.T) {
	seen := map[string]bool{}
	walk(t, func(path string, content []byte) {
		lines := bytes.Count(content, []byte("\n"))
		switch _, allowed := longer[path]; {
		case lines > longest && !allowed:
			t.Errorf("%s has %d lines: split it, or say in files_test.go why it is better whole", path, lines)
		case lines > longest:
			seen[path] = true
		}
	})
	for path, why := range longer {
		if !seen[path] || why == "" {
			t.Errorf("%s is not longer than %d lines, or nobody says why: take it off the list", path, longest)
		}
	}
}

// walk calls do for each Go file of the repository.
func walk(t *testing.T, do func(path string, content []byte)) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") && name != ".." || name == "bin" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		do(filepath.ToSlash(relative), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package storage

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/orlog-io/orlog/schemas"
)

// vocabulary lists what this package calls which change, a line each.
func vocabulary() []string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	for _, r := range rules {
		resources := r.resources
		if resources == nil {
			resources = []string{"*"}
		}
		for _, resource := range resources {
			add("%s %s %s %s", resource, r.path, r.verb, r.off)
		}
	}
	for resource, all := range turns {
		for _, t := range all {
			add("%s condition %s true=%s false=%s unknown=%s", resource, t.condition, t.isTrue, t.isFalse, t.odd)
		}
	}
	for resource, all := range phases {
		for phase, verb := range all {
			add("%s phase %s %s", resource, phase, verb)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestReleasedVocabulary: a word that was released means what it meant. New words go into
// schemas/released/vocabulary.txt with the next release.
func TestReleasedVocabulary(t *testing.T) {
	b, err := fs.ReadFile(schemas.Released(), "vocabulary.txt")
	if err != nil {
		t.Fatal(err)
	}
	now := vocabulary()
	released := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(released) < 50 {
		t.Fatalf("only %d words were released", len(released))
	}
	for _, line := range released {
		if !slices.Contains(now, line) {
			t.Errorf("%q was released, and is told otherwise now", line)
		}
	}
}

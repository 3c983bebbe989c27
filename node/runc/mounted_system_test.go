//go:build system

package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container of many layers names them by short links; they are seen as used all the same, until it is unmounted.
func TestLayersOfAContainerWithManyAreSeenAsMounted(t *testing.T) {
	dir := t.TempDir()
	var layers []string
	for i := range 90 {
		l := filepath.Join(dir, "layers", strings.Repeat("0", 61)+fmt.Sprintf("%03d", i))
		if err := os.MkdirAll(l, 0o755); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	box := filepath.Join(dir, "box")
	if err := os.Mkdir(box, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := mountOverlay(box, layers); err != nil {
		t.Fatal(err)
	}
	defer unmount(filepath.Join(box, rootfsDir))
	got, err := MountedLayers(append(layers, filepath.Join(dir, "layers", "other")))
	if err != nil || len(got) != len(layers) {
		t.Errorf("%d of %d layers found: %v", len(got), len(layers), err)
	}
	if err := unmount(filepath.Join(box, rootfsDir)); err != nil {
		t.Fatal(err)
	}
	if got, err := MountedLayers(layers); err != nil || len(got) != 0 {
		t.Errorf("after it was unmounted: %v %v", got, err)
	}
}

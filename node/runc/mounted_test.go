package runc

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMountedLayersAreFoundByLongAndShortNames(t *testing.T) {
	dir := t.TempDir()
	layer := func(digit string) string { return "/var/lib/orlog/images/layers/" + strings.Repeat(digit, 64) }
	if err := linkLayers(dir, []string{layer("c"), layer("d")}); err != nil {
		t.Fatal(err)
	}
	mounts := `36 35 98:0 / / rw,noatime - ext4 /dev/root rw
40 36 0:50 / /pods/a/rootfs rw - overlay overlay rw,lowerdir=` + layer("b") + `:` + layer("a") + `,upperdir=/pods/a/upper,workdir=/pods/a/work
41 36 0:51 / ` + filepath.Join(dir, rootfsDir) + ` rw - overlay overlay rw,lowerdir=/proc/self/fd/9/.1:/proc/self/fd/9/.0,upperdir=/proc/self/fd/9/upper
42 36 98:1 /orlog/images/layers/` + strings.Repeat("e", 64) + ` /volumes/v ro shared:1 - ext4 /dev/sdb rw
43 36 0:52 / /gone/rootfs rw - overlay overlay rw,lowerdir=/proc/self/fd/9/.0
`
	got := mountedLayers(mounts, []string{layer("a"), layer("b"), layer("c"), layer("d"), layer("e"), layer("f")})
	want := []string{layer("a"), layer("b"), layer("c"), layer("d"), layer("e")}
	if list := slices.Sorted(maps.Keys(got)); !slices.Equal(list, want) {
		t.Errorf("found %q", list)
	}
	if _, err := os.Stat("/proc/self/mountinfo"); err == nil {
		if _, err := MountedLayers(nil); err != nil {
			t.Error(err)
		}
	}
}

package volume

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// image shows an image's files, read-only and not executable. The image must be here: see Sources.ImageLayers.
func image(dir string, layers []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if mounted, err := mountinfo.Mounted(dir); err != nil || mounted {
		return err
	}
	const flags = unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	if len(layers) == 1 { // an overlay of one layer alone is refused by the kernel
		if err := unix.Mount(layers[0], dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding %s: %w", layers[0], err)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			return fmt.Errorf("making %s read-only: %w", dir, err)
		}
		return nil
	}
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	top := slices.Clone(layers)
	slices.Reverse(top) // overlayfs wants the uppermost layer first
	for i := range top {
		top[i] = escape.Replace(top[i])
	}
	data := "lowerdir=" + strings.Join(top, ":")
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("the image has %d layers: too many for a volume", len(layers))
	}
	if err := unix.Mount("overlay", dir, "overlay", flags, data); err != nil {
		return fmt.Errorf("overlay on %s: %w", dir, err)
	}
	return nil
}

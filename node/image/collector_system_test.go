//go:build system

package image

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file system that fills up: the images that nobody uses go, oldest use first, until there is room again, and what
// they share with others stays.
func TestCollectorOnARealFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	reg := newRegistryServer(t)
	s, err := Open(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	base := bigLayer(t, "base", 3*mib)
	ref := func(i int) string { return fmt.Sprintf("%s/app%d:1", reg.host, i) }
	for i := range 6 {
		reg.push(t, newImage(t, fmt.Sprint(i), base, bigLayer(t, fmt.Sprint("own", i), 8*mib+i)), fmt.Sprintf("app%d:1", i))
		img, err := s.Pull(t.Context(), ref(i), PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Used(img.ID, time.Now().Add(-time.Duration(10-i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	var guard sync.Mutex
	c := &Collector{Store: s, Policy: Policy{High: 75, Low: 50}, Guard: &guard, Logger: slog.New(slog.DiscardHandler),
		InUse: func() ([]string, map[string]bool, error) { return []string{ref(0)}, nil, nil }}
	_, percent, err := c.excess()
	if err != nil || percent < 75 {
		t.Fatalf("%d%% in use: %v", percent, err)
	}
	if err := c.Round(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, percent, err = c.excess(); err != nil || percent > 50 || percent < 35 {
		t.Errorf("%d%% in use afterwards: %v", percent, err)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, img := range list {
		left = append(left, strings.TrimSuffix(strings.TrimPrefix(img.Ref, reg.host+"/"), ":1"))
		for _, l := range img.Layers {
			if _, err := os.Stat(l); err != nil {
				t.Error(err)
			}
		}
	}
	if got := strings.Join(left, " "); got != "app0 app4 app5" && got != "app0 app3 app4 app5" {
		t.Errorf("left: %s", got)
	}
}

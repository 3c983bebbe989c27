//go:build system

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The tests own files and mount overlays, so the whole binary runs again in a mount namespace of its own.
func TestMain(m *testing.M) {
	const inside = "ORLOG_TEST_OWN_MOUNTS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// member is one entry of an archive; the letters of kind are those of ls: - d l h p c.
type member struct {
	kind    byte
	name    string
	content string // or the target of a link
	mode    int64  // default 0644, of directories 0755
	uid     int
	xattrs  map[string]string
}

var kinds = map[byte]byte{'-': tar.TypeReg, 'd': tar.TypeDir, 'l': tar.TypeSymlink, 'h': tar.TypeLink, 'p': tar.TypeFifo, 'c': tar.TypeChar}

var then = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: kinds[m.kind], Mode: m.mode, Uid: m.uid, Gid: m.uid, ModTime: then, Format: tar.FormatPAX}
		switch m.kind {
		case '-':
			h.Size = int64(len(m.content))
		case 'l', 'h':
			h.Linkname = m.content
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if m.kind == 'd' {
				h.Mode = 0o755
			}
		}
		for k, v := range m.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if m.kind == '-' {
			w.Write([]byte(m.content))
		}
	}
	w.Close()
	return buf.Bytes()
}

// describe lists a directory: one line a file, "kind mode uid name [content or target]".
func describe(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%s %o %d %s", string("?pc?d?b?-?l?s???"[st.Mode>>12]), st.Mode&0o7777, st.Uid, rel)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(data)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		case info.IsDir():
			if n, _ := unix.Getxattr(path, opaqueAttr, make([]byte, 4)); n > 0 {
				line += " opaque"
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestExtract(t *testing.T) {
	for name, c := range map[string]struct {
		below []member // of the layer below
		layer []member
		want  []string
	}{
		"kinds, owners, modes": {
			layer: []member{
				{kind: 'd', name: "./"}, {kind: 'd', name: "bin/", mode: 0o711, uid: 7},
				{kind: '-', name: "bin/su", content: "x", mode: 0o4755, uid: 0}, {kind: '-', name: "./bin/own", content: "y", mode: 0o2600, uid: 1000},
				{kind: 'l', name: "bin/sh", content: "/bin/su", uid: 5}, {kind: 'h', name: "bin/hard", content: "bin/su"},
				{kind: 'p', name: "fifo", mode: 0o600}, {kind: 'd', name: "tmp", mode: 0o1777},
			},
			want: []string{"d 711 7 bin", "- 4755 0 bin/hard x", "- 2600 1000 bin/own y", "l 777 5 bin/sh /bin/su", "- 4755 0 bin/su x",
				"p 600 0 fifo", "d 1777 0 tmp"},
		},
		"absolute names": {layer: []member{{kind: '-', name: "/etc/x", content: "1"}}, want: []string{"d 755 0 etc", "- 644 0 etc/x 1"}},
		"whiteouts": {
			layer: []member{{kind: '-', name: "a/.wh.gone"}, {kind: '-', name: "b/.wh..wh..opq"}, {kind: '-', name: ".wh..wh.plnk"}},
			want:  []string{"d 755 0 a", "c 0 0 a/gone", "d 755 0 b opaque"},
		},
		"whiteout and file of one name": {
			layer: []member{
				{kind: '-', name: ".wh.before"}, {kind: '-', name: "before", content: "1"}, {kind: '-', name: "after", content: "2"}, {kind: '-', name: ".wh.after"},
				{kind: '-', name: ".wh.dir1"}, {kind: 'd', name: "dir1"}, {kind: 'd', name: "dir2"}, {kind: '-', name: ".wh.dir2"},
			},
			want: []string{"- 644 0 after 2", "- 644 0 before 1", "d 755 0 dir1 opaque", "d 755 0 dir2 opaque"},
		},
		"the last of one name counts": {
			layer: []member{
				{kind: '-', name: "a", content: "old"}, {kind: '-', name: "a", content: "new"}, {kind: 'd', name: "d"}, {kind: '-', name: "d/x", content: "1"},
				{kind: 'd', name: "d", mode: 0o700}, {kind: 'd', name: "e"}, {kind: '-', name: "e/x"}, {kind: '-', name: "e", content: "file"},
				{kind: '-', name: "f", content: "shared"}, {kind: 'h', name: "g", content: "f"}, {kind: '-', name: "g", content: "apart"},
			},
			want: []string{"- 644 0 a new", "d 700 0 d", "- 644 0 d/x 1", "- 644 0 e file", "- 644 0 f shared", "- 644 0 g apart"},
		},
		"implied directories are as below": {
			below: []member{{kind: 'd', name: "tmp", mode: 0o1777}, {kind: 'd', name: "home/u", mode: 0o700, uid: 1000}},
			layer: []member{{kind: '-', name: "tmp/x"}, {kind: '-', name: "home/u/x"}, {kind: '-', name: "home/v/x"}},
			want:  []string{"d 755 0 home", "d 700 1000 home/u", "- 644 0 home/u/x ", "d 755 0 home/v", "- 644 0 home/v/x ", "d 1777 0 tmp", "- 644 0 tmp/x "},
		},
		"links to directories": {
			layer: []member{
				{kind: 'd', name: "usr/lib"}, {kind: 'l', name: "lib", content: "usr/lib"}, {kind: '-', name: "lib/a"},
				{kind: 'l', name: "var/run", content: "/run"}, {kind: '-', name: "var/run/pid"}, // /run is not in this layer yet
				{kind: 'l', name: "var/lock", content: "../run/lock"}, {kind: '-', name: "var/lock/l"},
			},
			want: []string{"l 777 0 lib usr/lib", "d 755 0 run", "d 755 0 run/lock", "- 644 0 run/lock/l ", "- 644 0 run/pid ",
				"d 755 0 usr", "d 755 0 usr/lib", "- 644 0 usr/lib/a ", "d 755 0 var", "l 777 0 var/lock ../run/lock", "l 777 0 var/run /run"},
		},
		"links out lead nowhere": {
			layer: []member{{kind: 'l', name: "out", content: "../../../../../../tmp/orlog-test-escape"}, {kind: '-', name: "out/evil"}},
			want:  []string{"l 777 0 out ../../../../../../tmp/orlog-test-escape", "d 755 0 tmp", "d 755 0 tmp/orlog-test-escape", "- 644 0 tmp/orlog-test-escape/evil "},
		},
		"links of the layer below are not followed": {
			below: []member{{kind: 'l', name: "x", content: "/etc"}},
			layer: []member{{kind: '-', name: "x/passwd", content: "1"}},
			want:  []string{"d 755 0 x", "- 644 0 x/passwd 1"},
		},
		"devices in dev": {layer: []member{{kind: 'd', name: "dev"}, {kind: 'c', name: "dev/null"}}, want: []string{"d 755 0 dev"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, below := filepath.Join(t.TempDir(), "l"), filepath.Join(t.TempDir(), "below")
			if err := extract(tar.NewReader(bytes.NewReader(archive(t, c.below...))), below, nil); err != nil {
				t.Fatal(err)
			}
			if err := extract(tar.NewReader(bytes.NewReader(archive(t, c.layer...))), dir, []string{below}); err != nil {
				t.Fatal(err)
			}
			if got := describe(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	if _, err := os.Lstat("/tmp/orlog-test-escape"); err == nil {
		t.Error("a layer escaped")
	}
}

func TestExtractKeepsTimesAttributesAndLinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "l")
	capability := string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	err := extract(tar.NewReader(bytes.NewReader(archive(t,
		member{kind: 'd', name: "d"},
		member{kind: '-', name: "d/ping", content: "x", mode: 0o755, uid: 9, xattrs: map[string]string{
			"security.capability": capability, "user.note": "n", "security.selinux": "s", "trusted.other": "t"}},
		member{kind: 'h', name: "d/pong", content: "d/ping"},
		member{kind: 'l', name: "d/l", content: "ping"},
	))), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var a, b unix.Stat_t
	for name, st := range map[string]*unix.Stat_t{"d/ping": &a, "d/pong": &b} {
		if err := unix.Lstat(filepath.Join(dir, name), st); err != nil {
			t.Fatal(err)
		}
	}
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Error("hard links are copies")
	}
	for _, name := range []string{"d", "d/ping", "d/l"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !info.ModTime().Equal(then) {
			t.Errorf("%s: %v %v", name, info.ModTime(), err)
		}
	}
	for attr, want := range map[string]string{"security.capability": capability, "user.note": "n", "trusted.other": ""} {
		buf := make([]byte, 64)
		n, _ := unix.Getxattr(filepath.Join(dir, "d/ping"), attr, buf)
		if string(buf[:max(n, 0)]) != want {
			t.Errorf("%s = %q", attr, buf[:max(n, 0)])
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		layer []member
	}{
		"dotdot":               {ErrHostile, []member{{kind: '-', name: "../x"}}},
		"dotdot inside":        {ErrHostile, []member{{kind: '-', name: "a/../../x"}}},
		"device":               {ErrHostile, []member{{kind: 'c', name: "sda"}}},
		"device as whiteout":   {ErrHostile, []member{{kind: 'c', name: "a/b"}}},
		"overlay redirect":     {ErrHostile, []member{{kind: 'd', name: "a", xattrs: map[string]string{"trusted.overlay.redirect": "/etc"}}}},
		"overlay opaque":       {ErrHostile, []member{{kind: 'd', name: "a", xattrs: map[string]string{"user.overlay.opaque": "y"}}}},
		"whiteout of nothing":  {ErrHostile, []member{{kind: '-', name: "a/.wh."}}},
		"whiteout of dotdot":   {ErrHostile, []member{{kind: '-', name: "a/.wh..."}}},
		"root is a link":       {ErrHostile, []member{{kind: 'l', name: ".", content: "/etc"}}},
		"link out":             {ErrHostile, []member{{kind: 'h', name: "a", content: "../../etc/passwd"}}},
		"absolute link":        {ErrCorrupt, []member{{kind: 'h', name: "a", content: "/etc/passwd"}}},
		"link through a link":  {ErrCorrupt, []member{{kind: 'l', name: "l", content: "/etc"}, {kind: 'h', name: "a", content: "l/passwd"}}},
		"link to a directory":  {ErrCorrupt, []member{{kind: 'd', name: "d"}, {kind: 'h', name: "a", content: "d"}}},
		"file as a directory":  {ErrCorrupt, []member{{kind: '-', name: "f"}, {kind: '-', name: "f/x"}}},
		"links in a circle":    {ErrCorrupt, []member{{kind: 'l', name: "a", content: "b"}, {kind: 'l', name: "b", content: "a"}, {kind: '-', name: "a/x"}}},
		"self-similar dangler": {ErrCorrupt, []member{{kind: 'l', name: "a", content: "a/b"}, {kind: '-', name: "a/x"}}},
	} {
		dir := filepath.Join(t.TempDir(), "l")
		err := extract(tar.NewReader(bytes.NewReader(archive(t, c.layer...))), dir, nil)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "l")
	cut := archive(t, member{kind: '-', name: "f", content: strings.Repeat("x", 4096)})[:2000]
	if err := extract(tar.NewReader(bytes.NewReader(cut)), dir, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut off: %v", err)
	}
}

// What three layers amount to, as the kernel sees them.
func TestLayersStack(t *testing.T) {
	var layers []string
	for _, l := range [][]member{
		{{kind: 'd', name: "d"}, {kind: '-', name: "d/kept", content: "1"}, {kind: '-', name: "d/gone", content: "1"},
			{kind: 'd', name: "o"}, {kind: '-', name: "o/hidden", content: "1"}, {kind: 'd', name: "r"}, {kind: '-', name: "r/hidden", content: "1"}},
		{{kind: '-', name: "d/.wh.gone"}, {kind: '-', name: "o/.wh..wh..opq"}, {kind: '-', name: "o/new", content: "2"}, {kind: '-', name: ".wh.r"}},
		{{kind: 'd', name: "r"}, {kind: '-', name: "r/new", content: "3"}},
	} {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(len(layers)))
		if err := extract(tar.NewReader(bytes.NewReader(archive(t, l...))), dir, layers); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, dir)
	}
	slices.Reverse(layers)
	merged := t.TempDir()
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(layers, ":")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(merged, unix.MNT_DETACH)
	var got []string
	for _, line := range describe(t, merged) {
		if line[0] == '-' {
			got = append(got, strings.TrimPrefix(line, "- 644 0 "))
		}
	}
	if want := []string{"d/kept 1", "o/new 2", "r/new 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

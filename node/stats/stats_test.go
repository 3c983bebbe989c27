package stats

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func files(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	for name, text := range content {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"v2/pod/cpu.stat":                     "usage_usec 1500000\nuser_usec 1\n",
		"v2/pod/memory.stat":                  "anon 300\nfile 700\ninactive_file 400\npgfault 9\npgmajfault 2\n",
		"v2/pod/memory.current":               "1000\n",
		"cpu/pod/cpuacct.usage":               "1500000000\n",
		"memory/pod/memory.stat":              "rss 1\ntotal_rss 300\ntotal_inactive_file 400\ntotal_pgfault 9\ntotal_pgmajfault 2\n",
		"memory/pod/memory.usage_in_bytes":    "1000\n",
		"memory/odd/memory.stat":              "total_inactive_file 400\n",
		"memory/odd/memory.usage_in_bytes":    "100\n",
		"cpu/odd/cpuacct.usage":               "1\n",
		"memory/broken/memory.usage_in_bytes": "many\n", "memory/broken/memory.stat": "", "cpu/broken/cpuacct.usage": "1\n",
	})
	v1 := &Reader{cpu: filepath.Join(dir, "cpu"), memory: filepath.Join(dir, "memory")}
	v2 := &Reader{unified: filepath.Join(dir, "v2")}
	for name, r := range map[string]*Reader{"v1": v1, "v2": v2} {
		u, err := r.Read("/pod")
		u.Time = time.Time{}
		if want := (Usage{CPU: 1500 * time.Millisecond, Memory: 1000, WorkingSet: 600, RSS: 300, PageFaults: 9, MajorFaults: 2}); err != nil || u != want {
			t.Errorf("%s: %+v %v, want %+v", name, u, err, want)
		}
		if _, err := r.Read("/gone"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v, want ErrNotFound", name, err)
		}
	}
	if u, err := v1.Read("/odd"); err != nil || u.WorkingSet != 0 {
		t.Errorf("more inactive than used: %+v %v", u, err)
	}
	if _, err := v1.Read("/broken"); err == nil {
		t.Error("no error for a file that is no number")
	}
}

func TestThisMachine(t *testing.T) {
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if u, err := r.Read("/"); err == nil && (u.CPU == 0 || u.Memory == 0) {
		t.Errorf("the whole machine uses %+v", u)
	}
}

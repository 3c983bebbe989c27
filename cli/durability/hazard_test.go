//go:build system

package durability

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
)

// victim stands in one ConfigMap, in plain, in the log's block.
const victim = "the-victim-of-a-cosmic-ray"

// TestHazards does to the folder of an orlogd that has ended what disks, people and backups do, and starts it
// again. It comes up with everything or it ends, at once, and says what is wrong and what to do.
func TestHazards(t *testing.T) {
	base := newDaemon(t)
	base.start(t)
	base.ready(t)
	client, err := base.client()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		data := map[string]string{"n": fmt.Sprint(i)}
		if i == 10 {
			data["v"] = victim
		}
		if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("m", i)}, Data: data}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	base.stop(t)
	for _, c := range []struct {
		name   string
		damage []func(*testing.T, string)
		want   []string // what orlogd says as it ends; none: it comes up whole
	}{
		{"index missing", do(removeIndex), nil},
		{"projections missing", do(remove("projections")), nil},
		{"log missing", do(remove("log")), []string{"has no stream ORLOG", "not created anew", "restore the stream from a backup"}},
		{"only the notary knows of the log", do(remove("log"), remove("projections")), []string{"not created anew", "restore the stream from a backup"}},
		{"stream missing", do(remove("log/jetstream/*/streams/ORLOG")), []string{"not created anew", "restore the stream from a backup"}},
		{"stream cannot be loaded", do(remove("log/jetstream/*/streams/ORLOG/meta.inf")), []string{"could not load it", "Restore the directory from a backup"}},
		{"tail cut off", do(cutTail), []string{"missing", "estore the stream from a backup"}},
		{"tail cut off, index missing", do(cutTail, removeIndex), []string{"its tail is lost", "Restore the server's directory", "accept the loss"}},
		{"tail cut off, projections missing", do(cutTail, removeIndex, remove("projections")), []string{"its tail is lost", "Restore the server's directory"}},
		{"sequences used again", do(cutTail, removeIndex, reuse), []string{"its tail was lost and written anew", "restore the log from a backup"}},
		{"sequences used again, projections missing", do(cutTail, removeIndex, reuse, remove("projections")), []string{"is not the one that was signed", "restore the log from a backup"}},
		{"flipped bit, read again", do(flipBit, remove("projections")), []string{"events are missing", "restore the stream from a backup"}},
		{"flipped bit, index missing", do(flipBit, removeIndex), []string{"its tail is lost", "Restore the server's directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDaemon(t)
			d.api, d.nats = base.api, base.nats // the kubeconfig and the certificates stay those of base
			if out, err := exec.Command("cp", "-a", base.dataDir(), d.dataDir()).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v: %s", err, out)
			}
			for _, damage := range c.damage {
				damage(t, d.dataDir())
			}
			d.start(t)
			if c.want == nil {
				d.ready(t)
				whole(t, d)
				return
			}
			d.ends(t, c.want)
		})
	}
}

func do(damage ...func(*testing.T, string)) []func(*testing.T, string) { return damage }

// whole checks that everything is there.
func whole(t *testing.T, d *daemon) {
	t.Helper()
	client, err := d.client()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		m, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), fmt.Sprint("m", i), metav1.GetOptions{})
		if err != nil || m.Data["n"] != fmt.Sprint(i) {
			t.Errorf("m%d: %v, %v", i, m.Data, err)
		}
	}
	d.stop(t)
}

// ends waits until orlogd has ended by itself and checks its last words.
func (d *daemon) ends(t *testing.T, want []string) {
	t.Helper()
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		t.Fatal("orlogd goes on")
	}
	code := d.cmd.ProcessState.ExitCode()
	d.cmd = nil
	out, err := os.ReadFile(d.file("orlogd.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	at := len(lines) - 1
	for at > 0 && !strings.HasPrefix(lines[at], "orlogd: ") {
		at--
	}
	last := strings.Join(lines[at:], "\n")
	if code != 1 || !strings.HasPrefix(last, "orlogd: ") {
		t.Errorf("exit code %d, last words: %s", code, last)
	}
	for _, w := range want {
		if !strings.Contains(last, w) {
			t.Errorf("orlogd does not say %q as it ends, but:\n%s", w, last)
		}
	}
	t.Log(last)
}

// Damages, to a data folder.

func remove(pattern string) func(*testing.T, string) {
	return func(t *testing.T, dataDir string) {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dataDir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func removeIndex(t *testing.T, dataDir string) {
	remove("log/jetstream/*/streams/ORLOG/msgs/index.db")(t, dataDir)
}

// rewrite changes the last block of the log.
func rewrite(t *testing.T, dataDir string, change func([]byte) []byte) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dataDir, "log/jetstream/*/streams/ORLOG/msgs/*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks: %v, %v", blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err == nil {
		err = os.WriteFile(blocks[0], change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func cutTail(t *testing.T, dataDir string) {
	rewrite(t, dataDir, func(data []byte) []byte { return data[:len(data)-len(data)/20] })
}

func flipBit(t *testing.T, dataDir string) {
	rewrite(t, dataDir, func(data []byte) []byte {
		at := bytes.Index(data, []byte(victim))
		if at < 0 {
			t.Fatal("the victim is not in the block")
		}
		data[at] ^= 1
		return data
	})
}

// reuse has somebody append to the log whose tail is gone, so that it is as long as it was, and longer.
func reuse(t *testing.T, dataDir string) {
	t.Run("append", func(t *testing.T) { // the server ends with it
		log := openLog(t, dataDir)
		for i := range 200 {
			e := events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "configmaps", Namespace: "default", Name: "other"}},
				Type: "io.orlog.configmap.updated", Source: "test", Actor: "test", UID: "other", Time: time.Now(), Object: []byte(fmt.Sprintf(`{"n":%d}`, i))}
			if _, err := log.Append(t.Context(), events.Entry{Event: e}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

//go:build system

package systemtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// BenchmarkIdle reports what the whole system holds and uses while nothing happens but three pods' running.
func BenchmarkIdle(b *testing.B) {
	c := client(b)
	benchDeployment(b, c, 3)
	untilReady(b, c, 3)
	time.Sleep(20 * time.Second) // what the start took is given back by then
	shims := shimPIDs(b)
	if len(shims) != 3 {
		b.Fatalf("%d shims serve 3 pods", len(shims))
	}
	pids := append([]int{the.orlogd.cmd.Process.Pid, the.agent.cmd.Process.Pid}, shims...)
	names := append([]string{"orlogd", "agent"}, "shims", "shims", "shims")
	used, held := map[string]float64{}, map[string]float64{}
	const window = 20 * time.Second
	for i, pid := range pids {
		used[names[i]] -= cpuSeconds(b, pid)
	}
	time.Sleep(window)
	for i, pid := range pids {
		used[names[i]] += cpuSeconds(b, pid)
		if names[i] == "shims" { // they share their program's pages
			held["shims"] += memory(b, pid, "smaps_rollup", "Pss:")
		} else {
			held[names[i]] += memory(b, pid, "status", "VmRSS:")
		}
	}
	var cpu, mib float64
	for name := range held {
		b.ReportMetric(held[name], "MiB-"+name)
		b.ReportMetric(used[name]/window.Seconds()*100, "%core-"+name)
		cpu, mib = cpu+used[name], mib+held[name]
	}
	b.ReportMetric(mib, "MiB")
	b.ReportMetric(cpu/window.Seconds()*100, "%core")
	var private []float64
	for _, pid := range shims {
		private = append(private, memory(b, pid, "smaps_rollup", "Private_Clean:")+memory(b, pid, "smaps_rollup", "Private_Dirty:"))
	}
	b.ReportMetric(median(private), "MiB-private/shim")
	b.ReportMetric(0, "ns/op")
	removeBench(b, c)
}

// shimPIDs are the processes of this cluster's shims: each lives in its pod's folder.
func shimPIDs(b *testing.B) []int {
	b.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	var out []int
	for _, path := range paths {
		name, err := os.ReadFile(filepath.Join(path, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "orlog-shim" { // an error: it has ended meanwhile
			continue
		}
		if home, err := os.Readlink(filepath.Join(path, "cwd")); err != nil || !strings.HasPrefix(home, the.dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, pid)
	}
	return out
}

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(raw)[strings.LastIndexByte(string(raw), ')')+2:])
	var sum float64
	for _, n := range f[11:13] { // utime, stime
		v, err := strconv.ParseFloat(n, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += v
	}
	return sum / 100 // a tick is 10 ms
}

// memory reads one field, in MiB, of a process's file in /proc.
func memory(b *testing.B, pid int, file, field string) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("process %d: %s has no %s", pid, file, field)
	return 0
}

// BenchmarkControlPlaneStart starts orlogd again on its log, from the call to the API saying that it is ready.
func BenchmarkControlPlaneStart(b *testing.B) {
	config := clientConfig(b, "")
	var took []time.Duration
	for range 5 {
		if err := the.orlogd.stop(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		var err error
		if the.orlogd, err = the.spawnOrlogd(); err != nil {
			b.Fatal(err)
		}
		untilServed(b, config)
		took = append(took, time.Since(begin))
	}
	b.ReportMetric(milliseconds(median(took)), "ms")
	b.ReportMetric(0, "ns/op")
}

// untilServed asks every few milliseconds: a server that is not there yet cannot be waited on.
func untilServed(b *testing.B, config *rest.Config) {
	b.Helper()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		b.Fatal(err)
	}
	c, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		b.Fatal(err)
	}
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		status := 0
		c.CoreV1().RESTClient().Get().AbsPath("/readyz").MaxRetries(0).Do(b.Context()).StatusCode(&status)
		if status == http.StatusOK {
			return
		}
	}
	b.Fatal("orlogd did not become ready")
}

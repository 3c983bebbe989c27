//go:build system

package systemtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is one orlogd and one agent, run as processes of their own inside a network namespace.
type cluster struct {
	id         string // unique on the host, at most 8 bytes: it names links and tables
	dir        string
	bin        string
	kubeconfig string
	orlogd     *process
	agent      *process
	traces     *traceReceiver
}

// the is the cluster that every test shares.
var the *cluster

func TestMain(m *testing.M) {
	flag.Parse() // for logLevel
	os.Exit(runAll(m))
}

func runAll(m *testing.M) (code int) {
	c, err := newCluster()
	if c != nil {
		defer func() {
			if err := c.remove(); err != nil {
				fmt.Fprintln(os.Stderr, "systemtest: clean-up:", err)
				code = 1
			}
		}()
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "systemtest: starting the cluster:", err)
		c.dumpLogs()
		return 1
	}
	the = c
	code = m.Run()
	// After all that the tests did, so that nothing is missed that only some of them bring about.
	if err := c.checkPrivate(); err != nil {
		fmt.Fprintln(os.Stderr, "systemtest: files that others can read:", err)
		code = 1
	}
	if code != 0 {
		c.dumpLogs()
	}
	return code
}

func newCluster() (*cluster, error) {
	bin := os.Getenv("ORLOG_BIN")
	if bin == "" {
		return nil, errors.New("ORLOG_BIN must name the folder of the built binaries (task build)")
	}
	dir, err := os.MkdirTemp("", "orlog-st")
	if err != nil {
		return nil, err
	}
	c := &cluster{id: "o" + strconv.FormatInt(int64(os.Getpid()), 36), dir: dir, bin: bin, kubeconfig: filepath.Join(dir, "kubeconfig")}
	peer := c.id + "p"
	for _, args := range [][]string{
		{"netns", "add", c.id},
		{"-n", c.id, "link", "set", "lo", "up"},
		// An address that is not loopback, for pods to reach the API server at.
		{"-n", c.id, "link", "add", c.id, "type", "veth", "peer", "name", peer},
		{"-n", c.id, "addr", "add", "198.51.100.1/24", "dev", c.id},
		{"-n", c.id, "link", "set", c.id, "up"},
		{"-n", c.id, "link", "set", peer, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return c, fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	c.traces, err = receiveTraces(c.id)
	return c, err
}

// inside makes a command that runs in the cluster's network namespace, and dies with the test.
func (c *cluster) inside(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + c.id, name}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.dir,
		"PATH="+filepath.Join(c.bin, "tools")+":"+c.bin+":"+os.Getenv("PATH"))
	return cmd
}

func (c *cluster) start() error {
	if err := c.startOrlogd(); err != nil {
		return err
	}
	if err := c.startAgent(); err != nil {
		return err
	}
	for _, v := range []string{"1.0", "2.0"} {
		if _, err := c.run("orlog", "image", "pack", filepath.Join(c.bin, "demo-web"), "--tag", "orlog.local/demo/web:"+v,
			"--env", "VERSION="+v, "--expose", "8080", "--store", filepath.Join(c.dir, "node", "images")); err != nil {
			return err
		}
	}
	return c.packBusybox()
}

// packBusybox makes an image with a shell from the host's static busybox.
func (c *cluster) packBusybox() error {
	_, err := c.run("orlog", "image", "pack", "/bin/busybox", "--tag", "orlog.local/test/busybox:1", "--applets",
		"--entrypoint", "/bin/sh", "--store", filepath.Join(c.dir, "node", "images"))
	return err
}

// logLevel is debug, so that the tests see whatever may ever be logged, but for benchmarks, which measure what users have.
func logLevel() string {
	if f := flag.Lookup("test.bench"); f != nil && f.Value.String() != "" {
		return "info"
	}
	return "debug"
}

func (c *cluster) spawnOrlogd() (*process, error) {
	return c.spawn("orlogd", "--data-dir", filepath.Join(c.dir, "orlogd"), "--listen", "0.0.0.0:6443",
		"--advertise-address", "198.51.100.1", "--kubeconfig", c.kubeconfig, "--node-kubeconfig", filepath.Join(c.dir, "node.kubeconfig"),
		"--node-credentials", filepath.Join(c.dir, "node.nats"), "--integrator-credentials", filepath.Join(c.dir, "integrator.nats"), "--node-name", c.id,
		"--metrics-listen", orlogdMetrics, "--trace-endpoint", traceEndpoint, "--trace-sampling", "0",
		"--nats-listen", "0.0.0.0:4222", "--log-level", logLevel())
}

func (c *cluster) startOrlogd() (err error) {
	if c.orlogd, err = c.spawnOrlogd(); err != nil {
		return err
	}
	return c.await(90*time.Second, "readyz", func() error {
		_, err := c.run("kubectl", "get", "--raw", "/readyz")
		return err
	})
}

func (c *cluster) startAgent() (err error) {
	c.agent, err = c.spawn("orlog-agent", "--data-dir", filepath.Join(c.dir, "node"), "--kubeconfig", filepath.Join(c.dir, "node.kubeconfig"),
		"--nats-credentials", filepath.Join(c.dir, "node.nats"), "--bin-dir", c.bin, "--node-name", c.id, "--bridge", c.id+"b", "--nft-table", c.id, "--cgroup-root", "/"+c.id,
		"--metrics-listen", agentMetrics, "--trace-endpoint", traceEndpoint, "--trace-sampling", "0", "--log-level", logLevel())
	if err != nil {
		return err
	}
	return c.await(60*time.Second, "a Ready node", func() error {
		_, err := c.run("kubectl", "wait", "--for=condition=Ready", "node", c.id, "--timeout=1s")
		return err
	})
}

// remove takes away every trace; it goes on past errors and joins them.
func (c *cluster) remove() error {
	var errs []error
	for _, p := range []*process{c.agent, c.orlogd} {
		if p != nil {
			errs = append(errs, p.stop(syscall.SIGTERM))
		}
	}
	if _, err := os.Stat(filepath.Join(c.dir, "node")); err == nil {
		_, err := c.run("orlog-agent", "reset", "--data-dir", filepath.Join(c.dir, "node"), "--bin-dir", c.bin,
			"--bridge", c.id+"b", "--nft-table", c.id, "--cgroup-root", "/"+c.id)
		errs = append(errs, err)
	}
	if c.traces != nil {
		c.traces.stop()
	}
	if out, err := exec.Command("ip", "netns", "del", c.id).CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("ip netns del: %w: %s", err, out))
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// run runs a command to its end and returns what it printed on standard output.
func (c *cluster) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := c.inside(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// await polls until a check passes; a system test watches from outside, where there is nothing to wait on.
func (c *cluster) await(limit time.Duration, what string, check func() error) error {
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		for _, p := range []*process{c.orlogd, c.agent} {
			if p != nil && p.ended() {
				return fmt.Errorf("waiting for %s: %s ended", what, p.name)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("waiting %v for %s: %w", limit, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *cluster) dumpLogs() {
	if c == nil {
		return
	}
	logs, err := filepath.Glob(filepath.Join(c.dir, "*.log"))
	if err != nil {
		return
	}
	for _, l := range logs {
		out, err := exec.Command("tail", "-n", "60", l).Output()
		fmt.Fprintf(os.Stderr, "==> %s (%v)\n%s\n", filepath.Base(l), err, out)
	}
}

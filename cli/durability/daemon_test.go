//go:build system

package durability

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// daemon is one orlogd's folder and ports, and the process that works on them at present.
type daemon struct {
	dir, bin  string
	api, nats string // host:port, the same after every restart
	advertise string // the endpoint of the kubernetes Service

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended and was waited for
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	bin := os.Getenv("ORLOG_BIN")
	if bin == "" {
		t.Fatal("ORLOG_BIN must name the folder of the built binaries (task build)")
	}
	d := &daemon{dir: t.TempDir(), bin: bin, api: freePort(t), nats: freePort(t), advertise: "198.51.100.1"}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			out, err := exec.Command("tail", "-n", "40", d.file("orlogd.log")).Output()
			t.Logf("orlogd's last lines (%v):\n%s", err, out)
		}
	})
	return d
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (d *daemon) file(name string) string { return filepath.Join(d.dir, name) }
func (d *daemon) dataDir() string         { return d.file("data") }

// start starts orlogd and does not wait for it.
func (d *daemon) start(t *testing.T, further ...string) {
	t.Helper()
	out, err := os.OpenFile(d.file("orlogd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	args := append([]string{"--data-dir", d.dataDir(), "--listen", d.api, "--nats-listen", d.nats,
		"--advertise-address", d.advertise, "--kubeconfig", d.file("kubeconfig"), "--node-kubeconfig", d.file("node.kubeconfig"), "--node-name", "durability"}, further...)
	d.cmd = exec.Command(filepath.Join(d.bin, "orlogd"), args...)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, done := d.cmd, make(chan struct{})
	d.done = done
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in its log
	}()
}

// kill is kill -9, and waits for the end.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may be gone
	<-d.done
	d.cmd = nil
}

// stop asks orlogd to end and waits until it has.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		t.Fatal("orlogd did not end within a minute of SIGTERM")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("orlogd ended with %d after SIGTERM", code)
	}
	d.cmd = nil
}

// client is an administrator's, which gives up a request after a while and never slows itself down.
func (d *daemon) client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", d.file("kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Timeout = -1, 10*time.Second
	return kubernetes.NewForConfig(config)
}

// ready waits until the API is ready.
func (d *daemon) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for {
		err := d.askReady(ctx)
		if err == nil {
			return
		}
		select {
		case <-d.done:
			t.Fatal("orlogd ended instead of becoming ready")
		case <-ctx.Done():
			t.Fatalf("orlogd is not ready: %v", err)
		case <-time.After(20 * time.Millisecond): // a system test watches from outside
		}
	}
}

func (d *daemon) askReady(ctx context.Context) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if err == nil && strings.TrimSpace(string(body)) != "ok" {
		err = errors.New(string(body))
	}
	if err != nil {
		return fmt.Errorf("readyz: %w", err)
	}
	return nil
}

//go:build system

package systemtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netns"
)

// floor starts containers by nothing but what every orchestrator with a network needs: an overlay, a network namespace,
// the CNI plugins bridge and host-local, and runc.
type floor struct {
	id     string // names the namespace that stands for the host, and begins the names of the containers
	dir    string
	runc   string
	spec   map[string]any
	cni    *libcni.CNIConfig
	config *libcni.NetworkConfigList
}

// containerFloor measures the floor: how long one container takes to start, alone (the median), and how many a second
// there are with four started at a time.
func containerFloor(b *testing.B) (alone time.Duration, rate float64) {
	b.Helper()
	f := newFloor(b)
	var took []time.Duration
	var all []*floorContainer
	for i := range 9 {
		begin := time.Now()
		c, err := f.start(fmt.Sprint(i))
		took, all = append(took, time.Since(begin)), append(all, c)
		if err != nil {
			b.Error(err)
			break
		}
	}
	var next atomic.Int64
	var mu sync.Mutex
	var group sync.WaitGroup
	const atOnce, many = 4, 48
	begin := time.Now()
	for range atOnce {
		group.Go(func() {
			for i := next.Add(1); i <= many && !b.Failed(); i = next.Add(1) {
				c, err := f.start(fmt.Sprint("m", i))
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				all = append(all, c)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	rate = many / time.Since(begin).Seconds()
	for _, c := range all {
		if err := c.remove(); err != nil {
			b.Error(err)
		}
	}
	if b.Failed() {
		b.FailNow()
	}
	return median(took), rate
}

func newFloor(b *testing.B) *floor {
	b.Helper()
	f := &floor{id: the.id + "f", dir: b.TempDir(), runc: filepath.Join(the.bin, "runc")}
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"floor","plugins":[{"type":"bridge","bridge":"floor0","isGateway":true,"isDefaultGateway":true,`+
		`"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.99.0.0/16"}]]}}]}`, filepath.Join(f.dir, "ipam"))
	var err error
	if f.config, err = libcni.ConfListFromBytes([]byte(conf)); err != nil {
		b.Fatal(err)
	}
	f.cni = libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(the.bin, "cni")}, filepath.Join(f.dir, "cache"), nil)
	lower := filepath.Join(f.dir, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cp", filepath.Join(the.bin, "demo-web"), lower).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	if f.spec, err = runcSpec(f.runc, f.dir); err != nil {
		b.Fatal(err)
	}
	if err := newNamespace(f.id); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // with the bridge in it
		if err := netns.DeleteNamed(f.id); err != nil {
			b.Error(err)
		}
	})
	return f
}

// runcSpec is runc's example of a config.json, made in dir, without what this machine may forbid.
func runcSpec(runcPath, dir string) (map[string]any, error) {
	if out, err := exec.Command(runcPath, "spec", "--bundle", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	process := spec["process"].(map[string]any)
	process["terminal"] = false
	delete(process, "rlimits") // raising them needs CAP_SYS_RESOURCE
	return spec, nil
}

// newNamespace makes a network namespace with a name.
func newNamespace(name string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: it is in the new namespace
		h, err := netns.NewNamed(name)
		if err == nil {
			err = h.Close()
		}
		done <- err
	}()
	return <-done
}

// floorContainer is a container of the floor, as far as it was made.
type floorContainer struct {
	f                    *floor
	name, bundle, rootfs string
	made, mounted, wired bool
}

func (f *floor) start(n string) (*floorContainer, error) {
	c := &floorContainer{f: f, name: f.id + n, bundle: filepath.Join(f.dir, n)}
	c.rootfs = filepath.Join(c.bundle, "rootfs")
	upper, work := filepath.Join(c.bundle, "upper"), filepath.Join(c.bundle, "work")
	for _, dir := range []string{c.bundle, c.rootfs, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return c, err
		}
	}
	if err := syscall.Mount("overlay", c.rootfs, "overlay", 0, "lowerdir="+filepath.Join(f.dir, "lower")+",upperdir="+upper+",workdir="+work); err != nil {
		return c, fmt.Errorf("overlay: %w", err)
	}
	c.mounted = true
	if err := newNamespace(c.name); err != nil {
		return c, fmt.Errorf("network namespace: %w", err)
	}
	c.made = true
	err := inNamespace(f.id, func() error {
		_, err := f.cni.AddNetworkList(context.Background(), f.config, c.network())
		return err
	})
	if err != nil {
		return c, fmt.Errorf("CNI: %w", err)
	}
	c.wired = true
	if err := c.writeSpec(); err != nil {
		return c, err
	}
	run := exec.Command(f.runc, "--root", filepath.Join(f.dir, "state"), "run", "--detach", "--bundle", c.bundle, c.name)
	if err := run.Run(); err != nil { // its output would be the container's: nobody would read it
		return c, fmt.Errorf("runc run %s: %w", c.name, err)
	}
	return c, nil
}

func (c *floorContainer) network() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: c.name, NetNS: filepath.Join("/run/netns", c.name), IfName: "eth0"}
}

func (c *floorContainer) writeSpec() error {
	raw, err := json.Marshal(c.f.spec)
	if err != nil {
		return err
	}
	var spec map[string]any // of its own
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	spec["process"].(map[string]any)["args"] = []string{"/demo-web"}
	spec["linux"].(map[string]any)["cgroupsPath"] = "/" + c.name
	for _, ns := range spec["linux"].(map[string]any)["namespaces"].([]any) {
		if ns := ns.(map[string]any); ns["type"] == "network" {
			ns["path"] = c.network().NetNS
		}
	}
	if raw, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.bundle, "config.json"), raw, 0o600)
}

func (c *floorContainer) remove() error {
	var errs []error
	if c.wired {
		if out, err := exec.Command(c.f.runc, "--root", filepath.Join(c.f.dir, "state"), "delete", "--force", c.name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("runc delete %s: %w: %s", c.name, err, out))
		}
		errs = append(errs, inNamespace(c.f.id, func() error { return c.f.cni.DelNetworkList(context.Background(), c.f.config, c.network()) }))
	}
	if c.made {
		errs = append(errs, netns.DeleteNamed(c.name))
	}
	if c.mounted {
		errs = append(errs, syscall.Unmount(c.rootfs, 0))
	}
	return errors.Join(errs...)
}

// runcFloor is the time of one bare "runc run" of a program that ends at once, without a network.
func runcFloor(b *testing.B) time.Duration {
	b.Helper()
	dir, runcPath := b.TempDir(), filepath.Join(the.bin, "runc")
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cp", filepath.Join(the.bin, "demo-web"), filepath.Join(dir, "rootfs", "demo-web")).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	spec, err := runcSpec(runcPath, dir)
	if err != nil {
		b.Fatal(err)
	}
	spec["process"].(map[string]any)["args"] = []string{"/demo-web", "version"}
	raw, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for i := range 15 {
		begin := time.Now()
		if out, err := exec.Command(runcPath, "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, the.id+strconv.Itoa(i)).CombinedOutput(); err != nil {
			b.Fatalf("runc run: %v: %s", err, out)
		}
		took = append(took, time.Since(begin))
	}
	return median(took)
}

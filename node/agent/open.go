package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/network"
	"github.com/orlog-io/orlog/node/proxy"
	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/node/volume"
	"github.com/orlog-io/orlog/projections"
)

// part is something that runs along with the agent, or has to be closed after it.
type part struct {
	name  string
	run   func(ctx context.Context) error
	close func() error
}

// Open makes an agent with everything real, from what is in o.DataDir and o.BinDir. Close it after Run.
func Open(ctx context.Context, o Options) (_ *Agent, err error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	unlock, err := lockDir(o.DataDir)
	if err != nil {
		return nil, err
	}
	parts := []part{{close: unlock}}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(parts))
		}
	}()
	if o.Store == nil {
		o.Store, err = projections.Open(filepath.Join(o.DataDir, "projection"), projections.Options{Patterns: patterns(o.NodeName), Scope: "node-3 " + o.NodeName,
			CacheBytes: 8 << 20, MemTableBytes: 4 << 20, Logger: o.Logger})
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{close: o.Store.Close})
	}
	r, err := openRuntime(o)
	if err != nil {
		return nil, err
	}
	parts = append(parts, part{close: func() error { r.Close(); return nil }})
	o.Runtime, o.Exec = r, execIn(r)
	images, err := image.Open(filepath.Join(o.DataDir, "images"))
	if err != nil {
		return nil, err
	}
	o.Images = imageStore{images, o.PlainHTTP, o.Mirrors, countingTransport{o.metrics.pullBytes}}
	n, err := openNetwork(ctx, o, false)
	if err != nil {
		return nil, err
	}
	o.Network = podNetwork{n}
	parts = append(parts, part{name: "network pool", run: n.Run, close: n.Close})
	if o.API == nil && o.Rest != nil {
		if o.API, err = NewAPI(o.Rest); err != nil {
			return nil, fmt.Errorf("agent options: Rest: %w", err)
		}
	}
	a, err := New(o)
	if err != nil {
		return nil, err
	}
	a.images = a.collector(images)
	s, err := a.openServices()
	if err != nil {
		return nil, err
	}
	parts = append(parts, part{name: "services", run: s.run})
	a.parts = parts
	if o.Tunnel != nil {
		a.parts = append(a.parts, part{name: "node API", run: func(ctx context.Context) error { return a.serve(ctx, r) }})
	}
	return a, nil
}

// lockDir takes the data folder for this process alone.
func lockDir(dir string) (unlock func() error, err error) {
	// The pods' Secrets are in it. Containers get at what is mounted into them whatever the folder's mode.
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("agent options: DataDir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent options: DataDir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("agent options: DataDir %s is in use by another agent (%w): stop it, or give another", dir, err), f.Close())
	}
	return f.Close, nil // closing gives the lock back
}

// Close frees what Open opened. Run must have returned.
func (a *Agent) Close() error { return closeAll(a.parts) }

func closeAll(parts []part) error {
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i].close != nil {
			errs = append(errs, parts[i].close())
		}
	}
	return errors.Join(errs...)
}

func openRuntime(o Options) (*runc.Runtime, error) {
	return runc.New(runc.Options{Dir: filepath.Join(o.DataDir, "runc"), RuncPath: filepath.Join(o.BinDir, "runc"),
		ShimPath: filepath.Join(o.BinDir, "orlog-shim"), LogMaxSize: o.LogMaxSize, LogFiles: o.LogFiles, Warn: o.Logger.Warn})
}

func openNetwork(ctx context.Context, o Options, leaving bool) (*network.Manager, error) {
	pods, err := netip.ParsePrefix(o.PodCIDR)
	if err != nil {
		return nil, fmt.Errorf("agent options: PodCIDR: %w", err)
	}
	cluster, err := netip.ParsePrefix(o.ClusterCIDR)
	if err != nil {
		return nil, fmt.Errorf("agent options: ClusterCIDR: %w", err)
	}
	return network.New(ctx, network.Options{Dir: filepath.Join(o.DataDir, "network"), PluginDir: filepath.Join(o.BinDir, "cni"),
		PodCIDR: pods, ClusterCIDR: cluster, Bridge: o.Bridge, Table: o.Table + "-pods", Pool: 4, Leaving: leaving, Log: o.Logger})
}

func proxyOptions(o Options) (proxy.Options, error) {
	cluster, err := netip.ParsePrefix(o.ClusterCIDR)
	if err != nil {
		return proxy.Options{}, fmt.Errorf("agent options: ClusterCIDR: %w", err)
	}
	services, err := netip.ParsePrefix(o.ServiceCIDR)
	if err != nil {
		return proxy.Options{}, fmt.Errorf("agent options: ServiceCIDR: %w", err)
	}
	return proxy.Options{Config: proxy.Config{Node: o.NodeName, ClusterCIDR: cluster}, Table: o.Table + "-proxy", ServiceCIDR: services,
		Bridge: o.Bridge, Log: o.Logger}, nil
}

// Reset removes everything that a node's agent made: containers, networks, volumes, rules and its folder. No agent
// may be running.
func Reset(ctx context.Context, o Options) (err error) {
	if err := o.defaults(); err != nil {
		return err
	}
	if _, err := os.Stat(o.DataDir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockDir(o.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r, err := openRuntime(o)
	if err != nil {
		return err
	}
	defer r.Close()
	boxes, err := r.Sandboxes(ctx)
	if err != nil {
		return err
	}
	for _, s := range boxes {
		if err := r.CloseSandbox(ctx, s.ID); err != nil && !errors.Is(err, runc.ErrNotFound) {
			return fmt.Errorf("closing the sandbox of pod %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	volumes, err := volume.New(filepath.Join(o.DataDir, "volumes"), nil)
	if err != nil {
		return err
	}
	uids, err := volumes.Pods()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if err := volumes.Teardown(uid); err != nil {
			return err
		}
	}
	n, err := openNetwork(ctx, o, true)
	if err != nil {
		return err
	}
	options, err := proxyOptions(o)
	if err != nil {
		return err
	}
	p, err := proxy.New(options)
	if err != nil {
		return err
	}
	if err := errors.Join(p.Teardown(ctx), n.Destroy(ctx), n.Close()); err != nil {
		return err
	}
	removeCgroups(o.CgroupRoot)
	return errors.Join(os.RemoveAll(o.LogDir), os.RemoveAll(o.DataDir))
}

// removeCgroups removes the empty groups that pods' groups, and the shims of all nodes on this host, were in.
func removeCgroups(root string) {
	for _, group := range []string{root + "/besteffort", root + "/burstable", root, "/orlog/shims", "/orlog"} {
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, _ := filepath.Glob(filepath.Join(mount, group))
			for _, dir := range found {
				_ = os.Remove(dir) // one that is in use, or that a hierarchy lacks, stays as it is
			}
		}
	}
}

package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"
)

const (
	// attachTimeout bounds the plugins, which normally take 15 ms: one that hangs must not stop the pool for ever.
	attachTimeout = time.Minute
	// undoTimeout bounds the cleaning up that goes on although the caller's context has ended.
	undoTimeout = 30 * time.Second
)

// Manager sets up and tears down the networks of one node's pods. Safe for concurrent use.
type Manager struct {
	opts Options
	lock *os.File // exclusive for as long as the manager is open
	nft  knftables.Interface
	cni  *libcni.CNIConfig
	conf *libcni.NetworkConfigList

	mu     sync.Mutex
	pods   map[string]*record       // by pod UID: the sandbox it owns
	busy   map[string]chan struct{} // by pod UID: closed when the call that works on it returns
	pool   []*record                // ready, nobody's
	refill chan struct{}            // one token: the pool is not full
}

// Result is a pod's place in the network.
type Result struct {
	// NetNS is the path of the pinned network namespace, for the runtime to join.
	NetNS string
	// IPs of eth0, the primary first. Never empty.
	IPs []netip.Addr
	// MAC of eth0, in colon notation.
	MAC string
}

// New opens the state under o.Dir, prepares the host (bridge, table, sysctls) and removes whatever a crash left
// half made. Sandboxes of pods stay: [Manager.List] names them. It fails if another manager has o.Dir open.
func New(ctx context.Context, o Options) (_ *Manager, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	if o.MTU == 0 {
		if o.MTU, err = defaultMTU(); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"", "sandboxes", "netns", "ipam", "cache"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("network: Dir: %w", err)
		}
	}
	m := &Manager{opts: o, pods: map[string]*record{}, busy: map[string]chan struct{}{}, refill: make(chan struct{}, 1)}
	if m.lock, err = os.OpenFile(filepath.Join(o.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("network: Dir: %w", err)
	}
	defer func() {
		if err != nil {
			m.lock.Close()
		}
	}()
	if err := unix.Flock(int(m.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("network: Dir %s: another agent has it open: %w", o.Dir, err)
	}
	if m.nft, err = knftables.New(knftables.IPv4Family, o.Table); err != nil {
		return nil, fmt.Errorf("network: nftables: %w", err)
	}
	if err := m.openCNI(); err != nil {
		return nil, err
	}
	if !o.Leaving {
		if err := m.ensureHost(ctx); err != nil {
			return nil, err
		}
	}
	if err := m.recover(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Close lets another manager open Dir. Pods keep their networks. Run must have returned.
func (m *Manager) Close() error { return m.lock.Close() }

// Gateway is the host's address on the pods' bridge: pods reach the host, and its DNS, there.
func (m *Manager) Gateway() netip.Addr { return m.opts.gateway() }

// Setup returns the pod's network, made now unless it exists. podUID must be a Kubernetes UID; namespace and name
// are kept for whoever reads the records.
func (m *Manager) Setup(ctx context.Context, podUID, namespace, name string) (Result, error) {
	if podUID == "" {
		return Result{}, errors.New("network: Setup: podUID is empty")
	}
	release, err := m.acquire(ctx, podUID)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if r := m.owned(podUID); r != nil {
		if r.Attached && pinned(m.netnsPath(r.ID)) {
			return m.result(r), nil
		}
		// After a reboot, or when making it failed and so did undoing it.
		if err := m.destroy(ctx, r); err != nil {
			return Result{}, fmt.Errorf("%w (pod %s/%s)", err, namespace, name)
		}
	}
	owner := record{PodUID: podUID, Namespace: namespace, Name: name}
	if r := m.takeReady(owner); r != nil {
		return m.result(r), nil
	}
	r, err := m.create(ctx, owner)
	if err != nil {
		return Result{}, fmt.Errorf("%w (pod %s/%s)", err, namespace, name)
	}
	return m.result(r), nil
}

// Teardown gives a pod's addresses and namespace back. A pod it never heard of is fine.
func (m *Manager) Teardown(ctx context.Context, podUID string) error {
	release, err := m.acquire(ctx, podUID)
	if err != nil {
		return err
	}
	defer release()
	if r := m.owned(podUID); r != nil {
		return m.destroy(ctx, r)
	}
	return nil
}

// Check returns the pod's network if it has one that is whole.
func (m *Manager) Check(podUID string) (Result, bool) {
	r := m.owned(podUID)
	if r == nil || !r.Attached || !pinned(m.netnsPath(r.ID)) {
		return Result{}, false
	}
	return m.result(r), true
}

// List returns the UIDs of all pods that hold a network, or a part of one, in order.
func (m *Manager) List() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	uids := make([]string, 0, len(m.pods))
	for uid := range m.pods {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids
}

// Destroy removes every sandbox, the bridge and the table: what a node does when it leaves the cluster.
func (m *Manager) Destroy(ctx context.Context) error {
	var errs []error
	for _, uid := range m.List() {
		errs = append(errs, m.Teardown(ctx, uid))
	}
	for r := m.popReady(); r != nil; r = m.popReady() {
		errs = append(errs, m.destroy(ctx, r))
	}
	errs = append(errs, m.removeHost(ctx))
	return errors.Join(errs...)
}

// acquire waits until nobody else works on the pod.
func (m *Manager) acquire(ctx context.Context, podUID string) (release func(), err error) {
	for {
		m.mu.Lock()
		other, taken := m.busy[podUID]
		if !taken {
			mine := make(chan struct{})
			m.busy[podUID] = mine
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.busy, podUID)
				m.mu.Unlock()
				close(mine)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("network: pod %s: %w", podUID, ctx.Err())
		}
	}
}

// owned returns the pod's record, which is never changed once it is in the map, only replaced.
func (m *Manager) owned(podUID string) *record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pods[podUID]
}

func (m *Manager) result(r *record) Result {
	return Result{NetNS: m.netnsPath(r.ID), IPs: slices.Clone(r.IPs), MAC: r.MAC}
}

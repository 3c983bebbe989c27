//go:build system

package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestPodsReachEachOtherAndTheHost(t *testing.T) {
	for _, bridgeNetfilter := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridgeNetfilter, func(t *testing.T) {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(bridgeNetfilter), 0); err != nil {
				t.Fatal(err)
			}
			m := open(t, options(t))
			a, b := setup(t, m, "a"), setup(t, m, "b")
			inB := serve(t, b.NetNS, b.IPs[0].String()+":8080")
			onHost := serve(t, "", m.Gateway().String()+":8080")
			for _, c := range []struct{ name, netns, addr, sees string }{
				{"pod to pod", a.NetNS, inB, a.IPs[0].String()},
				{"pod to itself", b.NetNS, inB, b.IPs[0].String()},
				{"host to pod", "", inB, m.Gateway().String()},
				{"pod to host", a.NetNS, onHost, a.IPs[0].String()},
			} {
				if got, err := call(c.netns, c.addr); err != nil || got != c.sees {
					t.Errorf("%s: server saw %q (%v), want %q", c.name, got, err, c.sees)
				}
			}
		})
	}
}

func TestPodsLeaveWithTheHostsAddress(t *testing.T) {
	m := open(t, options(t))
	pod := setup(t, m, "a")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := createNetNS(outside); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeNetNS(outside) })
	file, err := os.Open(outside)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer", PeerNamespace: netlink.NsFd(file.Fd())}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(link))
	defer netlink.LinkDel(link)
	address := func(name, cidr string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	must(address("uplink", "198.51.100.1/24"))
	must(inNetNS(outside, func() error { return address("peer", "198.51.100.2/24") }))
	server := serve(t, outside, "198.51.100.2:80")
	if got, err := call(pod.NetNS, server); err != nil || got != "198.51.100.1" {
		t.Errorf("the world saw %q (%v)", got, err)
	}
}

func TestSetupAndTeardownAreIdempotent(t *testing.T) {
	o := options(t)
	m := open(t, o)
	var wg sync.WaitGroup
	results := make([]Result, 8)
	for i := range results {
		wg.Go(func() {
			r, err := m.Setup(t.Context(), "a", "default", "a")
			if err != nil {
				t.Error(err)
			}
			results[i] = r
		})
	}
	wg.Wait()
	for _, r := range results {
		if r.NetNS != results[0].NetNS || !slices.Equal(r.IPs, results[0].IPs) || r.MAC == "" {
			t.Errorf("got %+v and %+v", results[0], r)
		}
	}
	if got := m.List(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("List = %v", got)
	}
	if r, ok := m.Check("a"); !ok || r.NetNS != results[0].NetNS {
		t.Errorf("Check = %+v, %v", r, ok)
	}
	for range 2 {
		if err := m.Teardown(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := m.Check("a"); ok || len(m.List()) != 0 || len(reserved(t, o)) != 0 {
		t.Errorf("something is left: %v %v", m.List(), reserved(t, o))
	}
}

func TestRestartKeepsPodsAndPool(t *testing.T) {
	o := options(t)
	o.Pool = 2
	m, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	before := setup(t, m, "a")
	if _, err := New(t.Context(), o); err == nil {
		t.Error("two managers on one Dir")
	}
	runPool(t, m)
	// The DNS server of the node has put its address there, too.
	bridge, err := netlink.LinkByName(o.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	other, err := netlink.ParseAddr("10.0.0.10/32")
	if err == nil {
		err = netlink.AddrAdd(bridge, other)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Close()

	m = open(t, o)
	if got := setup(t, m, "a"); got.NetNS != before.NetNS || !slices.Equal(got.IPs, before.IPs) || got.MAC != before.MAC {
		t.Errorf("after a restart %+v, before %+v", got, before)
	}
	if len(m.pool) != 2 {
		t.Errorf("pool after a restart: %d", len(m.pool))
	}
	ready := m.pool[0].ID
	got := setup(t, m, "b")
	if got.NetNS != m.netnsPath(ready) {
		t.Errorf("pod b got %s, not the prepared %s", got.NetNS, ready)
	}
	addr := serve(t, got.NetNS, got.IPs[0].String()+":1")
	if _, err := call(before.NetNS, addr); err != nil {
		t.Error(err)
	}
}

// runPool runs the pool until it is full.
func runPool(t *testing.T, m *Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); m.poolShort(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pool never fills")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRebootMakesPodsNetworksAnew(t *testing.T) {
	o := options(t)
	o.Pool = 1
	m, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	setup(t, m, "kept")
	setup(t, m, "gone")
	runPool(t, m)
	pins, err := os.ReadDir(filepath.Join(o.Dir, "netns"))
	if err != nil || len(pins) != 3 {
		t.Fatal(pins, err)
	}
	for _, pin := range pins { // what a reboot does: the mounts are gone, the files they were on are not
		if err := unix.Unmount(filepath.Join(o.Dir, "netns", pin.Name()), 0); err != nil {
			t.Fatal(err)
		}
	}
	// A record that the power loss ate: its address is still reserved.
	for _, uid := range []string{"gone"} {
		if err := os.WriteFile(m.recordPath(m.pods[uid].ID), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()

	m = open(t, o)
	if got := reserved(t, o); len(got) != 1 {
		t.Errorf("reserved after a reboot: %v", got)
	}
	if _, ok := m.Check("kept"); ok {
		t.Error("Check believes in a namespace that is gone")
	}
	r := setup(t, m, "kept")
	if _, err := call(r.NetNS, serve(t, "", m.Gateway().String()+":1")); err != nil {
		t.Error(err)
	}
	if got := reserved(t, o); len(got) != 1 {
		t.Errorf("reserved: %v", got)
	}
}

func TestTeardownOfWhatIsHalfGone(t *testing.T) {
	o := options(t)
	m := open(t, o)
	for name, spoil := range map[string]func(Result) error{
		"namespace unmounted": func(r Result) error { return unix.Unmount(r.NetNS, unix.MNT_DETACH) },
		"pin removed":         func(r Result) error { return removeNetNS(r.NetNS) },
		"link removed": func(r Result) error {
			return inNetNS(r.NetNS, func() error {
				l, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				return netlink.LinkDel(l)
			})
		},
		"plugins' cache removed": func(Result) error { return os.RemoveAll(filepath.Join(o.Dir, "cache")) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(setup(t, m, "a")); err != nil {
				t.Fatal(err)
			}
			if err := m.Teardown(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			if got := reserved(t, o); len(got) != 0 {
				t.Errorf("reserved: %v", got)
			}
		})
	}
}

// A plugin that fails after it did its work, and one that cannot even undo it: nothing may leak in the end.
func TestFailedButPersisted(t *testing.T) {
	o := options(t)
	real := o.PluginDir
	o.PluginDir = t.TempDir()
	if err := os.Symlink(filepath.Join(real, "host-local"), filepath.Join(o.PluginDir, "host-local")); err != nil {
		t.Fatal(err)
	}
	bridge := func(failing string) {
		script := fmt.Sprintf("#!/bin/sh\n%s/bridge || exit 1\ncase $CNI_COMMAND in %s) echo '{\"code\":999,\"msg\":\"broken\"}'; exit 1;; esac\n", real, failing)
		if err := os.WriteFile(filepath.Join(o.PluginDir, "bridge"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bridge("ADD")
	m := open(t, o)
	if _, err := m.Setup(t.Context(), "a", "default", "a"); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("Setup = %v", err)
	}
	if len(m.List()) != 0 || len(reserved(t, o)) != 0 {
		t.Errorf("left after a failed ADD: %v %v", m.List(), reserved(t, o))
	}
	bridge("ADD|DEL")
	if _, err := m.Setup(t.Context(), "a", "default", "a"); err == nil {
		t.Error("Setup succeeded")
	}
	if got := m.List(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("a sandbox that cannot be undone must be listed: %v", got)
	}
	bridge("NONE")
	r := setup(t, m, "a")
	if _, err := call(r.NetNS, serve(t, "", m.Gateway().String()+":1")); err != nil {
		t.Error(err)
	}
}

func TestRefusesWhatIsNotItsBridge(t *testing.T) {
	o := options(t)
	open(t, o)
	other := o
	other.Dir, other.PodCIDR, other.ClusterCIDR = t.TempDir(), netip.MustParsePrefix("10.78.0.0/24"), netip.Prefix{}
	if _, err := New(t.Context(), other); err == nil || !strings.Contains(err.Error(), "PodCIDR") {
		t.Errorf("New = %v", err)
	}
}

// TestLeavesWithOtherSettings: who takes a node down need not know how its network was laid out.
func TestLeavesWithOtherSettings(t *testing.T) {
	o := options(t)
	m, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	setup(t, m, "u1")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	leaving := o
	leaving.PodCIDR, leaving.Leaving = netip.MustParsePrefix("10.78.0.0/24"), true
	open(t, leaving) // and is destroyed at the end, which looks for what is left
}

func BenchmarkSetup(b *testing.B) {
	m, err := New(b.Context(), Options{Dir: b.TempDir(), PluginDir: os.Getenv(pluginsVar), PodCIDR: netip.MustParsePrefix("10.77.0.0/16"), Bridge: "obench0"})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	defer m.Destroy(context.Background())
	for i := 0; b.Loop(); i++ {
		if _, err := m.Setup(b.Context(), fmt.Sprint(i), "default", "x"); err != nil {
			b.Fatal(err)
		}
	}
}

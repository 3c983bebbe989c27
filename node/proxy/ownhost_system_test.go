//go:build system

package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/network"
)

// The whole test binary runs again in network and mount namespaces of its own, which play the host: whatever
// happens, links, tables, sysctls and mounts die with the process.
func TestMain(m *testing.M) {
	if os.Getenv(pluginsVar) == "" {
		if err := runOnOwnHost(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// pluginsVar tells the inner process where the outer one built the CNI plugins.
const pluginsVar = "ORLOG_TEST_CNI_PLUGINS"

func runOnOwnHost() error {
	dir, err := os.MkdirTemp("", "orlog-cni-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := exec.Command("go", "build", "-o", dir+"/",
		"github.com/containernetworking/plugins/plugins/main/bridge",
		"github.com/containernetworking/plugins/plugins/ipam/host-local").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build CNI plugins: %w: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), pluginsVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

// host is a node with a pod network, an uplink to the outside and a running proxy.
type host struct {
	*testing.T
	net     *network.Manager
	proxy   *Proxy
	opts    Options
	outside string // path of a namespace at 198.51.100.2; the host is 198.51.100.1 there
	stop    func()
}

var (
	hostIP    = netip.MustParseAddr("198.51.100.1")
	outsideIP = netip.MustParseAddr("198.51.100.2")
)

func newHost(t *testing.T) *host {
	t.Helper()
	cidr := netip.MustParsePrefix("10.244.0.0/24")
	m, err := network.New(t.Context(), network.Options{
		Dir: t.TempDir(), PluginDir: os.Getenv(pluginsVar), PodCIDR: cidr,
		ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), Bridge: "otest0",
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, net: m}
	t.Cleanup(func() {
		if err := m.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		m.Close()
	})
	h.addOutside()
	h.opts = Options{
		Config: Config{Node: "here", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16")},
		Table:  "orlog-test-proxy", ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), Bridge: "otest0",
	}
	return h
}

// start runs a proxy that knows o; a second call replaces the first proxy, as a restart of the agent does.
func (h *host) start(o objects) {
	h.Helper()
	first := h.stop == nil
	if !first {
		h.stop()
	}
	p, err := New(h.opts)
	if err != nil {
		h.Fatal(err)
	}
	h.proxy = p
	h.give(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.Error(err)
		}
	}
	if first {
		h.Cleanup(func() {
			h.stop()
			if err := h.proxy.Teardown(context.Background()); err != nil {
				h.Error(err)
			}
		})
	}
	select {
	case <-p.Synced():
	case <-time.After(10 * time.Second):
		h.Fatal("the rules were never written")
	}
}

func (h *host) give(o objects) {
	for _, s := range o.services {
		h.proxy.Service(s.Namespace, s.Name, s)
	}
	for _, s := range o.slices {
		h.proxy.EndpointSlice(s.Namespace, s.Name, s)
	}
	for _, p := range o.pods {
		h.proxy.Pod(p.Namespace, p.Name, p)
	}
}

// eventually waits until ok says so: changes become rules a little later.
func (h *host) eventually(what string, ok func() bool) {
	h.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("never: %s", what)
		}
	}
}

// pod is a namespace with a server on TCP and UDP port 8080 that answers "<own name> <client's address>".
type pod struct{ name, netns, ip string }

func (h *host) pod(name string) pod {
	h.Helper()
	r, err := h.net.Setup(h.Context(), name, "default", name)
	if err != nil {
		h.Fatal(err)
	}
	p := pod{name, r.NetNS, r.IPs[0].String()}
	h.serve(p.netns, name, p.ip+":8080")
	return p
}

func (h *host) serve(netns, name, addr string) {
	h.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	err := within(netns, func() (err error) {
		if tcp, err = net.Listen("tcp4", addr); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp4", addr)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo(fmt.Appendf(nil, "%s %s", name, from.(*net.UDPAddr).AddrPort().Addr()), from)
		}
	}()
}

// call asks addr from inside netns ("" = the host) which server it reached and as whom.
func call(netns, addr string) (server, client string, err error) {
	var data []byte
	err = within(netns, func() error {
		c, err := net.DialTimeout("tcp4", addr, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		data, err = io.ReadAll(c)
		return err
	})
	fmt.Sscan(string(data), &server, &client)
	return server, client, err
}

func within(netns string, fn func() error) error {
	if netns == "" {
		return fn()
	}
	file, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// addOutside makes a namespace that is nobody's pod and whose only neighbour is the host.
func (h *host) addOutside() {
	h.Helper()
	h.outside = filepath.Join(h.TempDir(), "outside")
	if err := os.WriteFile(h.outside, nil, 0o600); err != nil {
		h.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", h.outside, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { unix.Unmount(h.outside, unix.MNT_DETACH) })
	file, err := os.Open(h.outside)
	if err != nil {
		h.Fatal(err)
	}
	defer file.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer", PeerNamespace: netlink.NsFd(file.Fd())}
	if err := netlink.LinkAdd(link); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { netlink.LinkDel(link) })
	up := func(name string, addr netip.Addr) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	if err := up("uplink", hostIP); err != nil {
		h.Fatal(err)
	}
	// External addresses of services are routed somewhere before the rules see them, as by a default route.
	_, external, _ := net.ParseCIDR("203.0.113.0/24")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: external, Gw: outsideIP.AsSlice()}); err != nil {
		h.Fatal(err)
	}
	err = within(h.outside, func() error {
		if err := up("peer", outsideIP); err != nil {
			return err
		}
		l, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: hostIP.AsSlice()})
	})
	if err != nil {
		h.Fatal(err)
	}
}

//go:build system

package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
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
	if err := onThread(configureNetNS); err != nil {
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

func options(t *testing.T) Options {
	t.Helper()
	return Options{Dir: t.TempDir(), PluginDir: os.Getenv(pluginsVar), PodCIDR: netip.MustParsePrefix("10.77.0.0/24"), Bridge: "otest0"}
}

// open starts a manager and sees to it that nothing of it is left for the next test.
func open(t *testing.T, o Options) *Manager {
	t.Helper()
	m, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Destroy(context.Background()); err != nil {
			t.Errorf("Destroy: %v", err)
		}
		m.Close()
		assertNothingLeft(t, o)
	})
	return m
}

func assertNothingLeft(t *testing.T, o Options) {
	t.Helper()
	for _, dir := range []string{"sandboxes", "netns"} {
		entries, err := os.ReadDir(filepath.Join(o.Dir, dir))
		if err != nil || len(entries) != 0 {
			t.Errorf("left in %s: %v %v", dir, entries, err)
		}
	}
	if addrs := reserved(t, o); len(addrs) != 0 {
		t.Errorf("reserved addresses left: %v", addrs)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), o.Dir) {
		t.Errorf("mounts left under %s (%v)", o.Dir, err)
	}
	// Links die with their namespaces, which the kernel does at its leisure.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Type() == "veth" || l.Type() == "bridge" }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("links left: %v", links)
		}
	}
}

func reserved(t *testing.T, o Options) (addrs []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(o.Dir, "ipam", o.Bridge))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			addrs = append(addrs, e.Name())
		}
	}
	return addrs
}

func setup(t *testing.T, m *Manager, uid string) Result {
	t.Helper()
	r, err := m.Setup(t.Context(), uid, "default", "pod-"+uid)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve answers every connection with the address the caller has, as seen from inside netns ("" = the host).
func serve(t *testing.T, netns, addr string) string {
	t.Helper()
	var l net.Listener
	listen := func() (err error) { l, err = net.Listen("tcp4", addr); return err }
	if err := within(netns, listen); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String())
			c.Close()
		}
	}()
	return l.Addr().String()
}

// call returns what the server at addr answers to a client in netns.
func call(netns, addr string) (answer string, err error) {
	err = within(netns, func() error {
		c, err := net.DialTimeout("tcp4", addr, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		data, err := io.ReadAll(c)
		answer = string(data)
		return err
	})
	return answer, err
}

func within(netns string, fn func() error) error {
	if netns == "" {
		return fn()
	}
	return inNetNS(netns, fn)
}

//go:build system

package dns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
)

// The whole test binary runs again in a network namespace of its own, so that no address it adds is the machine's.
func TestMain(m *testing.M) {
	const inside = "ORLOG_TEST_OWN_NETWORK"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, leaks)
}

func TestListensOnTheClustersAddress(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "otest0"
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(link)
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again after a restart, when the address is there already
		t.Run("", func(t *testing.T) {
			s := start(t, Options{Link: "otest0", Listen: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}})
			s.Service("a", "web", &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}})
			for _, network := range []string{"udp", "tcp"} {
				if m := ask(t, s, network, "web.a.svc.cluster.local", dns.TypeA); len(m.Answer) != 1 {
					t.Errorf("%s: %v", network, m)
				}
			}
			if s.Addrs()[0].String() != "10.96.0.10:53" {
				t.Errorf("listens at %v", s.Addrs())
			}
		})
	}
}

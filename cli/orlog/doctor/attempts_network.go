package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Links implements attempts.
func (*realAttempts) Links() map[string]error {
	out := map[string]error{"bridge": nil, "veth": nil, "vxlan": nil}
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		attrs := func(name string) netlink.LinkAttrs {
			a := netlink.NewLinkAttrs()
			a.Name = name
			return a
		}
		out["bridge"] = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs("doctor0")})
		out["veth"] = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs("doctor1"), PeerName: "doctor2"})
		out["vxlan"] = netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs("doctor3"), VxlanId: 7, Port: 8472})
		return nil
	})
	if err != nil {
		out["bridge"] = err
	}
	return out
}

// HasLink implements attempts.
func (*realAttempts) HasLink(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// probeRules use what the service proxy and the pods' table use: address translation both ways, maps of verdicts,
// random choice, sets that forget, and connection tracking.
const probeRules = `add table ip orlog-doctor
add set ip orlog-doctor clients { type ipv4_addr ; flags dynamic ; timeout 10s ; }
add map ip orlog-doctor services { type ipv4_addr . inet_proto . inet_service : verdict ; }
add chain ip orlog-doctor before { type nat hook prerouting priority -100 ; }
add chain ip orlog-doctor after { type nat hook postrouting priority 100 ; }
add chain ip orlog-doctor raw { type filter hook prerouting priority -300 ; }
add chain ip orlog-doctor one
add chain ip orlog-doctor two
add chain ip orlog-doctor service
add rule ip orlog-doctor one update @clients { ip saddr }
add rule ip orlog-doctor one meta l4proto tcp dnat to 10.244.0.2:8080
add rule ip orlog-doctor two meta l4proto tcp dnat to 10.244.0.3:8080
add rule ip orlog-doctor service numgen random mod 2 vmap { 0 : goto one , 1 : goto two }
add element ip orlog-doctor services { 10.96.0.7 . tcp . 80 : goto service }
add rule ip orlog-doctor before ip daddr . meta l4proto . th dport vmap @services
add rule ip orlog-doctor after ct status dnat masquerade
add rule ip orlog-doctor raw ip daddr 127.0.0.0/8 drop
`

// NFT implements attempts.
func (a *realAttempts) NFT(ctx context.Context) (version string, err error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return "", err
	}
	if version, err = a.Output(ctx, nil, "", "nft", "--version"); err != nil {
		return "", err
	}
	return version, apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		// The program is started from this thread, in its namespace.
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(probeRules)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
			return fmt.Errorf("the service proxy's rules are refused: %w: %s", err, first)
		}
		return nil
	})
}

// Tables implements attempts.
func (a *realAttempts) Tables(ctx context.Context) ([]string, error) {
	out, err := a.Output(ctx, nil, "", "nft", "--json", "list", "tables")
	if err != nil {
		return nil, err
	}
	var answer struct {
		NFTables []struct {
			Table struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("nft list tables: %w", err)
	}
	var names []string
	for _, e := range answer.NFTables {
		if e.Table.Name != "" {
			names = append(names, e.Table.Name)
		}
	}
	return names, nil
}

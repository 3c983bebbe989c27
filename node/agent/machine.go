package agent

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// machine is what the agent knows of the computer it runs on. It does not change while the agent runs.
type machine struct {
	hostname string
	cpus     int64
	memory   int64 // bytes
	disk     int64 // bytes, of the file system that holds DataDir
	maxPods  int64
	reserved v1.ResourceList
	info     v1.NodeSystemInfo
}

func readMachine(o Options) (*machine, error) {
	m := &machine{cpus: int64(runtime.NumCPU()), maxPods: o.MaxPods, reserved: o.Reserved}
	var err error
	if m.hostname, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	if m.memory, err = memInfo("MemTotal"); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(o.DataDir, &fs); err != nil {
		return nil, fmt.Errorf("DataDir: %w", err)
	}
	m.disk = int64(fs.Blocks) * fs.Bsize
	m.info = v1.NodeSystemInfo{OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH, ContainerRuntimeVersion: "orlog://" + o.Version,
		KubeletVersion: o.Version, KubeProxyVersion: ""}
	for path, to := range map[string]*string{"/etc/machine-id": &m.info.MachineID, "/proc/sys/kernel/random/boot_id": &m.info.BootID,
		"/sys/class/dmi/id/product_uuid": &m.info.SystemUUID, "/proc/sys/kernel/osrelease": &m.info.KernelVersion} {
		if b, err := os.ReadFile(path); err == nil { // not every machine has every one
			*to = strings.TrimSpace(string(b))
		}
	}
	m.info.OSImage = osImage()
	return m, nil
}

func memInfo(field string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		parts := strings.Fields(scan.Text())
		if len(parts) >= 2 && parts[0] == field+":" {
			n, err := strconv.ParseInt(parts[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo: no %s", field)
}

func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

// capacity is all that the machine has.
func (m *machine) capacity() v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(m.cpus, resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(m.memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(m.disk, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(m.maxPods, resource.DecimalSI),
		"hugepages-2Mi":             *resource.NewQuantity(0, resource.BinarySI),
		"hugepages-1Gi":             *resource.NewQuantity(0, resource.BinarySI),
	}
}

// allocatable is what pods may have.
func (m *machine) allocatable() v1.ResourceList {
	out := m.capacity()
	for name, kept := range m.reserved {
		q, has := out[name]
		if !has {
			continue
		}
		if q.Sub(kept); q.Sign() < 0 {
			q = resource.Quantity{Format: q.Format}
		}
		out[name] = q
	}
	return out
}

// defaultIP is the address from which the machine speaks to others. No packet is sent.
func defaultIP() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, dst := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", dst)
		if err != nil {
			continue // no such route
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		conn.Close()
		return ip.String(), nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("the machine has no address")
}

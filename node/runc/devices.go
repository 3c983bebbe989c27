package runc

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostDevices looks the named devices of the host up. A folder stands for the devices in it.
func hostDevices(wanted []Device) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	for _, w := range wanted {
		at := w.ContainerPath
		if at == "" {
			at = w.HostPath
		}
		st, err := os.Stat(w.HostPath)
		if err != nil {
			return nil, fmt.Errorf("device: %w", err)
		}
		if !st.IsDir() {
			d, err := device(w.HostPath, at)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
			continue
		}
		below, err := devicesBelow(w.HostPath, at)
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

// allDevices are the host's, for a privileged container, but for what each container has of its own.
func allDevices() ([]specs.LinuxDevice, error) { return devicesBelow("/dev", "/dev") }

func devicesBelow(dir, at string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil // devices come and go while we look
		}
		if e.IsDir() {
			switch path {
			case "/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue":
				return fs.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 || path == "/dev/console" {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d, err := device(path, filepath.Join(at, rel)); err == nil {
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the devices in %s: %w", dir, err)
	}
	return out, nil
}

func device(path, at string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, fmt.Errorf("device %s: %w", path, err)
	}
	var kind string
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, fmt.Errorf("device %s: not a device", path)
	}
	mode := os.FileMode(st.Mode &^ unix.S_IFMT)
	return specs.LinuxDevice{
		Path: at, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}

// deviceRules let a container use the devices it was given.
func deviceRules(devices []specs.LinuxDevice, wanted []Device) []specs.LinuxDeviceCgroup {
	permissions := map[string]string{}
	for _, w := range wanted {
		at := w.ContainerPath
		if at == "" {
			at = w.HostPath
		}
		permissions[at] = w.Permissions
	}
	var rules []specs.LinuxDeviceCgroup
	for _, d := range devices {
		access := "rwm"
		if p := permissions[d.Path]; p != "" {
			access = p
		}
		major, minor := d.Major, d.Minor
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &major, Minor: &minor, Access: access})
	}
	return rules
}

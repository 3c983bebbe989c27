package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

const (
	gib = 1 << 30

	leastFree, goodFree     = 1 * gib, 10 * gib
	leastMemory, goodMemory = gib / 2, 2 * gib
	goodFiles, leastFiles   = 65536, 4096

	slowFsync, tooSlowFsync = 10 * time.Millisecond, 100 * time.Millisecond
	drift, tooMuchDrift     = 2 * time.Second, 30 * time.Second
	// steady is how far the clocks may move apart while we look, which is some milliseconds.
	steady = time.Millisecond
)

func size(n uint64) string { return units.BytesSize(float64(n)) }

func (m *machine) openFiles(context.Context) Finding {
	soft, hard, err := m.try.Limits()
	if err != nil {
		return warning(err.Error(), "check ulimit -n")
	}
	detail := fmt.Sprintf("%d, at most %d", soft, hard)
	switch {
	case hard < leastFiles:
		return problem(detail, "raise the limit to 65536 or more: LimitNOFILE= in the unit, ulimit -n in a shell")
	case hard < goodFiles:
		return warning(detail, "raise the limit to 65536 or more for many pods: LimitNOFILE= in the unit, ulimit -n in a shell")
	}
	return ok(detail)
}

func (m *machine) processes(context.Context) Finding {
	text, err := m.read("/proc/sys/kernel/pid_max")
	if err != nil {
		return warning(err.Error(), "mount /proc")
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return warning("pid_max is "+text, "sysctl kernel.pid_max=4194304")
	}
	instances, _ := m.read("/proc/sys/fs/inotify/max_user_instances") // not every kernel has it; then there is nothing to warn of
	if i, err := strconv.Atoi(instances); err == nil && i < 128 {
		return warning(fmt.Sprintf("pid_max %d, inotify instances %d", n, i), "sysctl fs.inotify.max_user_instances=1024: programs in pods share these")
	}
	if n < 32768 {
		return warning(fmt.Sprintf("pid_max %d", n), "sysctl kernel.pid_max=4194304")
	}
	return ok(fmt.Sprintf("pid_max %d", n))
}

func (m *machine) memory(context.Context) Finding {
	text, err := m.read("/proc/meminfo")
	if err != nil {
		return warning(err.Error(), "mount /proc")
	}
	amount := map[string]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			amount[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	total := amount["MemTotal"]
	detail := fmt.Sprintf("%s, %s available", size(total), size(amount["MemAvailable"]))
	switch {
	case total < leastMemory:
		return problem(detail, "the control plane alone needs half a GiB")
	case total < goodMemory:
		return warning(detail, "2 GiB or more leave room for pods")
	}
	return ok(detail)
}

// unfit file systems lose what was synced, or cannot lie under an overlay.
var unfit = map[string]string{"tmpfs": "is gone after a reboot", "ramfs": "is gone after a reboot", "nfs": "does not keep what is synced as a disk does",
	"overlay": "cannot hold containers' layers, and belongs to a container that may go"}

func (m *machine) disk(context.Context) Finding {
	dir := m.existing(m.DataDir)
	d, err := m.try.Disk(dir)
	if err != nil {
		return problem(err.Error(), "check the file system of --data-dir")
	}
	detail := fmt.Sprintf("%s free of %s in %s (%s)", size(d.free), size(d.size), dir, d.kind)
	if d.sizeInodes > 0 && d.freeInodes*20 < d.sizeInodes {
		return warning(fmt.Sprintf("%s, but %d of %d inodes", detail, d.freeInodes, d.sizeInodes), "delete small files, or make the file system anew with more inodes")
	}
	if why := unfit[d.kind]; why != "" {
		return warning(detail+": "+why, "keep --data-dir on ext4 or xfs on a disk")
	}
	switch {
	case d.free < leastFree:
		return problem(detail, "free some space: the log stops when the disk is full")
	case d.free < goodFree:
		return warning(detail, "free some space: 10 GiB leave room for images and a long log")
	}
	return ok(detail)
}

func (m *machine) fsync(context.Context) Finding {
	dir := m.existing(m.DataDir)
	took, err := m.try.Fsync(dir)
	if m.euid != 0 && errors.Is(err, fs.ErrPermission) {
		return needsRoot()
	}
	if err != nil || len(took) == 0 {
		return problem(fmt.Sprintf("%s: %v", dir, err), "make --data-dir writable for root, on a file system that syncs")
	}
	median, worst := took[len(took)/2], took[len(took)-1]
	detail := fmt.Sprintf("4 KiB in %s: median %s, worst %s", dir, rounded(median), rounded(worst))
	switch {
	case median > tooSlowFsync:
		return problem(detail, "use a faster disk: every write to the API waits for one sync")
	case median > slowFsync:
		return warning(detail, "use an SSD with power-loss protection, or its write cache: every write to the API waits for one sync")
	}
	return ok(detail)
}

func rounded(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

func (m *machine) clock(context.Context) Finding {
	source, _ := m.read("/sys/devices/system/clocksource/clocksource0/current_clocksource") // a detail for the line
	detail := strings.TrimSpace("source " + source)
	if m.now().Year() < 2024 {
		return problem(fmt.Sprintf("it says %s", m.now().Format(time.RFC3339)), "set the clock: certificates are not valid in the past")
	}
	if step := m.try.ClockStep(); step > steady || step < -steady {
		return warning(fmt.Sprintf("%s; it moved by %s while I looked", detail, step), "let one program keep the time (chrony), slewing it rather than setting it")
	}
	synced, err := m.try.ClockSync()
	if err != nil {
		return warning(fmt.Sprintf("%s; whether it is in step is not known: %v", detail, err), "check chrony or systemd-timesyncd")
	}
	if !synced {
		return warning(detail+"; nothing keeps it in step", "install chrony or enable systemd-timesyncd, where the machine's host does not keep the time")
	}
	return ok(detail + "; kept in step")
}

func (m *machine) gateway(ctx context.Context) Finding {
	if m.Gateway == nil {
		return warning("no kubeconfig was found, so no cluster was asked", "start orlogd, or name a kubeconfig with --kubeconfig")
	}
	asked := m.now()
	theirs, err := m.Gateway(ctx)
	if err != nil {
		return warning(fmt.Sprintf("%s does not answer: %v", m.GatewayAddress, err), "start orlogd (task up, or systemctl start orlogd), or name another kubeconfig with --kubeconfig")
	}
	// The header has whole seconds, cut off.
	ours := asked.Add(m.now().Sub(asked) / 2)
	off := ours.Sub(theirs.Add(time.Second / 2)).Round(100 * time.Millisecond)
	detail := fmt.Sprintf("%s answers; its clock is %s", m.GatewayAddress, inStep(off))
	switch {
	case off.Abs() > tooMuchDrift:
		return problem(detail, "set this machine's clock: certificates and tokens are refused, and times in the log mislead")
	case off.Abs() > drift:
		return warning(detail, "keep both clocks in step (chrony): times in the log mislead")
	}
	return ok(detail)
}

func inStep(off time.Duration) string {
	switch {
	case off.Abs() <= drift:
		return "in step with ours"
	case off > 0:
		return off.String() + " behind ours"
	}
	return (-off).String() + " ahead of ours"
}

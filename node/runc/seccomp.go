package runc

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allowedSyscalls is the well-known list of what an ordinary program needs; everything else fails with EPERM
// (and, runc sees to that, calls newer than the list with ENOSYS).
var allowedSyscalls = strings.Fields(`
	accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
	clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
	clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
	epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
	exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
	fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
	fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
	futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
	getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
	getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
	get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
	inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
	ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
	landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr
	_llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
	memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
	mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap
	mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
	_newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
	pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
	pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
	recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
	riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
	rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
	sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
	sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
	seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
	sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
	setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
	set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat
	shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice
	stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
	time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
	timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
	truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
	vmsplice wait4 waitid waitpid write writev process_vm_readv process_vm_writev ptrace arch_prctl modify_ldt`)

// capabilitySyscalls are allowed to who has the capability anyway.
var capabilitySyscalls = map[string]string{
	"CAP_DAC_READ_SEARCH": "open_by_handle_at",
	"CAP_SYS_ADMIN": `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
		mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns
		syslog umount umount2 unshare`,
	"CAP_SYS_BOOT":       "reboot",
	"CAP_SYS_CHROOT":     "chroot",
	"CAP_SYS_MODULE":     "delete_module init_module finit_module",
	"CAP_SYS_PACCT":      "acct",
	"CAP_SYS_PTRACE":     "kcmp pidfd_getfd process_madvise",
	"CAP_SYS_RAWIO":      "iopl ioperm",
	"CAP_SYS_TIME":       "settimeofday stime clock_settime clock_settime64",
	"CAP_SYS_TTY_CONFIG": "vhangup",
	"CAP_SYS_NICE":       "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
	"CAP_SYSLOG":         "syslog",
	"CAP_BPF":            "bpf",
	"CAP_PERFMON":        "perf_event_open",
}

// Flags and personalities that the profile looks at.
const (
	cloneNamespaces = 0x7E020000 // every CLONE_NEW flag
	afVsock         = 40
	errEPERM        = uint(1)
	errENOSYS       = uint(38)
)

// defaultSeccomp is the RuntimeDefault profile for a container with these capabilities.
func defaultSeccomp(capabilities []string) *specs.LinuxSeccomp {
	eperm, enosys := errEPERM, errENOSYS
	allow := func(names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: args}
	}
	equal := func(index uint, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Value: value, Op: specs.OpEqualTo}
	}
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &eperm,
		Architectures: architectures(),
		Syscalls: []specs.LinuxSyscall{
			allow(allowedSyscalls),
			allow([]string{"socket"}, specs.LinuxSeccompArg{Index: 0, Value: afVsock, Op: specs.OpNotEqual}),
		},
	}
	for _, persona := range []uint64{0, 8, 0x20000, 0x20008, 0xffffffff} {
		p.Syscalls = append(p.Syscalls, allow([]string{"personality"}, equal(0, persona)))
	}
	admin := false
	for _, c := range capabilities {
		if names, ok := capabilitySyscalls[c]; ok {
			p.Syscalls = append(p.Syscalls, allow(strings.Fields(names)))
		}
		admin = admin || c == "CAP_SYS_ADMIN"
	}
	if !admin {
		// No new namespaces. clone3's flags are behind a pointer: ENOSYS makes C libraries fall back to clone.
		p.Syscalls = append(p.Syscalls,
			allow([]string{"clone"}, specs.LinuxSeccompArg{Index: 0, Value: cloneNamespaces, ValueTwo: 0, Op: specs.OpMaskedEqual}),
			specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys})
	}
	return p
}

// readSeccomp reads a profile in the OCI's form or in Docker's, whose archMap stands for architectures.
func readSeccomp(path string) (*specs.LinuxSeccomp, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	var p struct {
		specs.LinuxSeccomp
		ArchMap []struct {
			Architecture     specs.Arch   `json:"architecture"`
			SubArchitectures []specs.Arch `json:"subArchitectures"`
		} `json:"archMap"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	if p.DefaultAction == "" {
		return nil, fmt.Errorf("seccomp profile %s: defaultAction is missing", path)
	}
	native := architectures()
	for _, m := range p.ArchMap {
		if len(native) > 0 && m.Architecture == native[0] {
			p.Architectures = append(append(p.Architectures, m.Architecture), m.SubArchitectures...)
		}
	}
	return &p.LinuxSeccomp, nil
}

// architectures are those whose programs run on this machine, its own first.
func architectures() []specs.Arch {
	switch runtime.GOARCH {
	case "amd64":
		// Not x32, which kernels are built without: each one costs every start 4 ms of making the filter.
		return []specs.Arch{specs.ArchX86_64, specs.ArchX86}
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	case "riscv64":
		return []specs.Arch{specs.ArchRISCV64}
	case "s390x":
		return []specs.Arch{specs.ArchS390X, specs.ArchS390}
	case "ppc64le":
		return []specs.Arch{specs.ArchPPC64LE}
	}
	return nil // libseccomp takes the native one
}

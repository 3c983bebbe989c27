package runc

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/orlog-io/orlog/node/shim"
)

// Container is one container to run.
type Container struct {
	ID          string   // unique in its sandbox, for each attempt another; also the name of its folder
	Name        string   // as in the pod's spec
	Attempt     int      // how often the container of this name has been restarted
	Layers      []string // unpacked image layers, lowest first
	Args, Env   []string
	Cwd         string // made if missing; empty: /
	UID, GID    uint32
	Groups      []uint32 // additional ones
	Mounts      []Mount
	Devices     []Device
	Resources   Resources
	Security    Security
	PIDOf       string // the ID of a running container of the pod whose processes this one shall see; empty: none
	OOMScoreAdj int    // raised to what this process may set where it may not set as low a value
	TTY         bool
	Stdin       bool // keep a standard input open for attach; else /dev/null
	StdinOnce   bool // the first attached client's end of input is the container's
	LogPath     string
	Labels      map[string]string
}

// Propagation says how mounts made later pass between the host and a mount of the container.
type Propagation string

// The propagations, by what Kubernetes calls them.
const (
	PropagationNone            Propagation = "" // not at all
	PropagationHostToContainer Propagation = "HostToContainer"
	PropagationBidirectional   Propagation = "Bidirectional"
)

// Mount is one mount in a container.
type Mount struct {
	Source   string // file or folder of the host; for other types than bind the source that the type wants
	Target   string // in the container; made if missing
	ReadOnly bool
	// RecursiveReadOnly makes the mounts below a read-only one read-only too.
	RecursiveReadOnly bool
	Propagation       Propagation
	Type              string   // empty: a bind mount
	Options           []string // further options, as mount(8) has them
}

// Device is a device of the host to appear in a container.
type Device struct {
	HostPath, ContainerPath string // ContainerPath empty: the same
	Permissions             string // of r, w and m; empty: rwm
}

// The values of Security.Seccomp beside "Localhost:<path>", which names a file with a profile in Docker's or the
// OCI's form.
const (
	SeccompUnconfined     = "Unconfined" // also the empty string
	SeccompRuntimeDefault = "RuntimeDefault"
	seccompLocalhost      = "Localhost:"
)

// Security is what confines a container. The zero value is the common container with no_new_privs.
type Security struct {
	Privileged                        bool
	AllowPrivilegeEscalation          bool
	AddCapabilities, DropCapabilities []string // with or without CAP_, in any case; ALL is every one
	ReadOnlyRoot                      bool
	Seccomp                           string
	MaskedPaths, ReadonlyPaths        []string // nil: the usual ones; empty: none
}

func (c Container) validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("container %s (%s): "+format, append([]any{c.ID, c.Name}, args...)...)
	}
	if !idPattern.MatchString(c.ID) {
		return fmt.Errorf("container %q: ID %q: want letters, digits and _.+-", c.Name, c.ID)
	}
	if len(c.Layers) == 0 {
		return fail("Layers: none given")
	}
	if len(c.Args) == 0 {
		return fail("Args: no command given: neither the pod nor the image has one")
	}
	for _, l := range c.Layers {
		if !filepath.IsAbs(l) {
			return fail("Layers: %q is not an absolute path", l)
		}
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Target) {
			return fail("Mounts: target %q is not an absolute path", m.Target)
		}
	}
	if c.Cwd != "" && !filepath.IsAbs(c.Cwd) {
		return fail("Cwd: %q is not an absolute path", c.Cwd)
	}
	if s := c.Security.Seccomp; s != "" && s != SeccompUnconfined && s != SeccompRuntimeDefault && !strings.HasPrefix(s, seccompLocalhost) {
		return fail("Seccomp: %q: want Unconfined, RuntimeDefault or Localhost:<path>", s)
	}
	return nil
}

// State is where a container is in its one-way life.
type State = shim.State

// A container's states.
const (
	Created = shim.Created
	Running = shim.Running
	Exited  = shim.Exited
)

// The reasons of an exit.
const (
	ReasonCompleted  = shim.ReasonCompleted
	ReasonError      = shim.ReasonError
	ReasonOOMKilled  = shim.ReasonOOMKilled
	ReasonStartError = shim.ReasonStartError
	ReasonUnknown    = shim.ReasonUnknown
)

// Status is what is known of a container.
type Status struct {
	ID, Name              string
	Attempt               int
	State                 State
	PID                   int // of its first process, as the host sees it; 0 once it has exited
	StartedAt, FinishedAt time.Time
	ExitCode              int // 128 and the signal's number where one ended it
	Signal                int
	OOMKilled             bool
	Reason, Message       string
	LogDropped            int64 // bytes of output that could not be written to the log
	LogPath               string
	Cgroup                string // of the container, below each hierarchy's root
	Labels                map[string]string
}

// Event says that something about a container, or (ContainerID empty) about a whole sandbox, is no longer as it
// was: call Status. Several changes may become one event; none is without.
type Event struct{ SandboxID, ContainerID string }

var (
	// ErrNotFound is in the chain of errors about a sandbox or container that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning is in the chain of errors about a container that must run for what was asked.
	ErrNotRunning = errors.New("container is not running")
	// ErrRunc is in the chain of errors that are runc's own answer.
	ErrRunc = errors.New("runc")
	// ErrShimGone is in the chain of errors of calls during which the shim died.
	ErrShimGone = errors.New("the pod's shim is gone")
)

// StartError says that runc could not start a container (no such command, a mount that does not work ...). The
// container is recorded as exited with code 128, as Kubernetes does.
type StartError struct{ Container, Message string }

func (e *StartError) Error() string {
	return fmt.Sprintf("start container %s: %s", e.Container, e.Message)
}

// status joins what the shim knows with what the container was meant to be.
func (c Container) status(s shim.Status, cgroup string) Status {
	pid := s.PID
	if s.State == Exited {
		pid = 0
	}
	return Status{
		ID: c.ID, Name: c.Name, Attempt: c.Attempt, State: s.State, PID: pid,
		StartedAt: s.StartedAt, FinishedAt: s.FinishedAt, ExitCode: s.ExitCode, Signal: s.Signal,
		OOMKilled: s.OOMKilled, Reason: s.Reason, Message: s.Message, LogDropped: s.LogDropped,
		LogPath: c.LogPath, Cgroup: cgroup, Labels: c.Labels,
	}
}

// killSignal is what ends a container for sure.
const killSignal = syscall.SIGKILL

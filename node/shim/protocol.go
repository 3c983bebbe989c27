package shim

import (
	"path/filepath"
	"time"
)

// The layout of a pod's folder. The agent makes the folders; the shim writes StatusFile and the logs.
const (
	SocketFile = "s"           // the shim's listening socket
	LogFile    = "shim.log"    // what the shim has to say about itself
	PIDFile    = "shim.pid"    // "<pid> <start time in clock ticks>", so that a shim that hangs can be found
	StatusFile = "status.json" // in a container's folder: its last known Status

	// ListenFD is where the shim finds its listening socket.
	ListenFD = 3
)

// ContainerDir is the folder of one container inside a pod's folder: its OCI bundle and its state.
func ContainerDir(podDir, id string) string { return filepath.Join(podDir, "c", id) }

// Op says what a request asks for.
type Op string

// What a shim can be asked. Every request gets one Reply, but for OpEvents, OpExec and OpAttach, whose
// connections are theirs until either side closes it.
const (
	OpHello    Op = "hello"    // Reply.PID is the shim's
	OpStatus   Op = "status"   // Reply.Containers holds ID's status, or everybody's where ID is empty
	OpRun      Op = "run"      // starts Run, or waits for the start under way of the same ID; idempotent
	OpSignal   Op = "signal"   // sends Signal to ID's first process
	OpWait     Op = "wait"     // answers with ID's status when it has exited and that is on disk
	OpForget   Op = "forget"   // drops an exited container: its log is closed, its output no longer read
	OpEvents   Op = "events"   // a Reply with every status, then one for each change, until hang-up
	OpExec     Op = "exec"     // with [stdin, stdout, stderr] as file descriptors; see ExecSpec
	OpAttach   Op = "attach"   // with a socket for each stream asked for; see AttachSpec
	OpResize   Op = "resize"   // within an attach: Width and Height of the terminal
	OpShutdown Op = "shutdown" // kills every container, waits for their exits, replies, ends
)

// Request is one message to the shim.
type Request struct {
	Op     Op          `json:"op"`
	ID     string      `json:"id,omitempty"`
	Signal int         `json:"signal,omitempty"`
	Run    *RunSpec    `json:"run,omitempty"`
	Exec   *ExecSpec   `json:"exec,omitempty"`
	Attach *AttachSpec `json:"attach,omitempty"`
	Width  uint16      `json:"width,omitempty"`  // columns
	Height uint16      `json:"height,omitempty"` // rows
}

// Runc says how to call runc.
type Runc struct {
	Path string `json:"path"` // the binary
	Root string `json:"root"` // runc's state folder
}

// RunSpec is a container to start from the OCI bundle in Dir.
type RunSpec struct {
	ID         string `json:"id"`
	Runc       Runc   `json:"runc"`
	Dir        string `json:"dir"`                  // the container's folder, absolute
	LogPath    string `json:"logPath,omitempty"`    // empty: output is read and dropped
	LogMaxSize int64  `json:"logMaxSize,omitempty"` // bytes; 0: never rotated
	LogFiles   int    `json:"logFiles,omitempty"`   // how many files to keep, the current one included
	TTY        bool   `json:"tty,omitempty"`
	Stdin      bool   `json:"stdin,omitempty"`
	StdinOnce  bool   `json:"stdinOnce,omitempty"` // the first attached client's end is the container's end of input
	// SharedPID says that the container has no PID namespace of its own: its other processes do not die with
	// its first one and must be killed through ProcsFile.
	SharedPID bool   `json:"sharedPID,omitempty"`
	ProcsFile string `json:"procsFile,omitempty"` // the cgroup.procs of the container's cgroup
	OOMFile   string `json:"oomFile,omitempty"`   // memory.oom_control (v1) or memory.events (v2), with an oom_kill line
}

// ExecSpec runs one more process in a container. The shim answers with Reply{PID} when it runs and with
// Reply{Exited, Status} when it has ended. A client that hangs up has the process killed.
type ExecSpec struct {
	Runc    Runc   `json:"runc"`
	Dir     string `json:"dir"`               // the container's folder
	Process string `json:"process"`           // file name in Dir: the OCI process to run; the caller removes it
	Console string `json:"console,omitempty"` // file name in Dir of the caller's console socket; empty: no terminal
}

// AttachSpec asks for a running container's streams; the request carries one stream socket for each one asked
// for, in this order. The shim closes the connection when the container has exited and its output is sent.
type AttachSpec struct {
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
}

// Reply is one message from the shim. Error is empty on success.
type Reply struct {
	Error      string   `json:"error,omitempty"`
	Code       Code     `json:"code,omitempty"`
	PID        int      `json:"pid,omitempty"`
	Containers []Status `json:"containers,omitempty"`
	Exited     bool     `json:"exited,omitempty"`
	ExitCode   int      `json:"exitCode,omitempty"`
}

// Code tells the few kinds of error apart.
type Code string

// The kinds of error.
const (
	CodeNotFound   Code = "not-found"   // the shim does not know the container
	CodeNotRunning Code = "not-running" // the container has exited, or has not started yet
	CodeRunc       Code = "runc"        // runc refused: Error is its own message
	CodeBusy       Code = "busy"        // a running container cannot be forgotten
	CodeBad        Code = "bad"         // the request makes no sense
)

// State is where a container is in its one-way life.
type State string

// A container's states.
const (
	Created State = "created" // runc is at work
	Running State = "running"
	Exited  State = "exited"
)

// The reasons of an exit, in the words Kubernetes uses.
const (
	ReasonCompleted  = "Completed"
	ReasonError      = "Error"
	ReasonOOMKilled  = "OOMKilled"
	ReasonStartError = "StartError"             // runc could not start it; exit code 128
	ReasonUnknown    = "ContainerStatusUnknown" // nobody saw it end
)

// Status is what the shim knows of a container, in memory and in StatusFile.
type Status struct {
	ID         string    `json:"id"`
	State      State     `json:"state"`
	PID        int       `json:"pid,omitempty"` // of the first process, as the host sees it
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int       `json:"exitCode"`
	Signal     int       `json:"signal,omitempty"` // that ended it, 0 where it exited by itself
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	LogDropped int64     `json:"logDropped,omitempty"` // bytes of output that could not be written to the log
}

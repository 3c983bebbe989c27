package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainPatience is how long an exit waits for the end of the container's output. Only processes that outlive the
// first one (a shared PID namespace) can keep it open, and they are being killed.
const drainPatience = 2 * time.Second

// runcEnv is what runc sees of the world. Its heap is a few MiB and lives 10 ms: collecting it is wasted work.
var runcEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOGC=off"}

// container is one container in the care of the shim.
type container struct {
	spec    RunSpec
	started chan struct{} // closed when the start has succeeded or failed
	ended   chan struct{} // closed when the exit is on disk

	mu      sync.Mutex
	status  Status
	runcPID int  // while runc is at work
	killed  bool // SIGKILL came before there was a process to send it to

	log      *logFile
	outputs  []*output
	pumps    sync.WaitGroup
	terminal *os.File           // master end, nil without
	stdin    *os.File           // where attached clients' input goes: a pipe, or the terminal
	clients  map[*Conn]*os.File // those attached, and their input or nil
}

func newContainer(spec RunSpec) *container {
	return &container{
		spec: spec, status: Status{ID: spec.ID, State: Created},
		started: make(chan struct{}), ended: make(chan struct{}), clients: map[*Conn]*os.File{},
	}
}

func (c *container) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	if c.log != nil {
		scratch.Lock()
		s.LogDropped = c.log.dropped
		scratch.Unlock()
	}
	return s
}

// run starts the container and follows it to its end; it returns when the container runs or has failed to.
func (s *Server) run(c *container) {
	defer close(c.started)
	exit, err := s.startContainer(c)
	if err != nil {
		s.failed(c, err)
		return
	}
	c.mu.Lock()
	c.runcPID = 0
	c.status.State, c.status.StartedAt = Running, time.Now()
	pid, killed := c.status.PID, c.killed
	running := c.status
	c.mu.Unlock()
	if killed {
		s.reaper.kill(pid, unix.SIGKILL)
	}
	for _, o := range c.outputs {
		c.pumps.Go(o.pump)
	}
	if err := WriteStatus(c.spec.Dir, running, false); err != nil {
		s.complain(err) // a crash of the shim will lose the start time, no more
	}
	go func() {
		ws := <-exit
		s.exited(c, ws)
	}()
}

// startContainer calls runc. The streams it opens are the container's, or closed again on failure.
func (s *Server) startContainer(c *container) (<-chan syscall.WaitStatus, error) {
	spec := c.spec
	log, err := openLog(spec.LogPath, spec.LogMaxSize, spec.LogFiles)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.log = log
	c.mu.Unlock()
	std, err := c.openStreams()
	defer std.close()
	if err != nil {
		return nil, fmt.Errorf("open the streams of %s: %w", spec.ID, err)
	}
	args := []string{"run", "-d"}
	if spec.TTY {
		args = append(args, "--console-socket", ttySocket)
		defer os.Remove(filepath.Join(spec.Dir, ttySocket))
	}
	pid, exit, err := s.do(runcCall{
		runc: spec.Runc, dir: spec.Dir, args: append(args, spec.ID), files: std.child, env: runcEnv,
		started: func(pid int) { s.starting(c, pid) },
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.status.PID = pid
	c.mu.Unlock()
	if spec.TTY {
		if err := c.openTerminal(std.console); err != nil {
			s.reaper.kill(pid, unix.SIGKILL)
			<-exit
			return nil, fmt.Errorf("take the terminal of %s: %w", spec.ID, err)
		}
	}
	return exit, nil
}

// starting notes which process is runc; a container told to die before that dies with it now.
func (s *Server) starting(c *container, pid int) {
	c.mu.Lock()
	c.runcPID = pid
	killed := c.killed
	c.mu.Unlock()
	if killed {
		s.reaper.kill(pid, unix.SIGKILL)
	}
}

// failed records that the container never ran.
func (s *Server) failed(c *container, err error) {
	killAll(c.spec.ProcsFile)
	for _, o := range c.outputs {
		c.pumps.Go(o.pump) // what runc or a half-started process said is worth its place in the log
	}
	now := time.Now()
	c.mu.Lock()
	c.runcPID = 0
	c.status.State, c.status.PID, c.status.FinishedAt = Exited, 0, now
	c.status.ExitCode, c.status.Reason, c.status.Message = 128, ReasonStartError, err.Error()
	if !errors.As(err, new(errRunc)) {
		c.status.Message = "shim: " + err.Error()
	}
	c.mu.Unlock()
	s.conclude(c)
}

// exited records how the container ended.
func (s *Server) exited(c *container, ws syscall.WaitStatus) {
	now := time.Now()
	if c.spec.SharedPID {
		killAll(c.spec.ProcsFile)
	}
	oom := oomKills(c.spec.OOMFile) > 0
	c.mu.Lock()
	st := &c.status
	st.State, st.FinishedAt = Exited, now
	st.ExitCode, st.Signal = exitOf(ws)
	switch {
	case st.ExitCode == 0:
		st.Reason = ReasonCompleted
	case oom:
		st.Reason, st.OOMKilled = ReasonOOMKilled, true
	default:
		st.Reason = ReasonError
	}
	c.mu.Unlock()
	s.conclude(c)
}

// conclude waits for the output's end, puts the exit on disk and only then announces it.
func (s *Server) conclude(c *container) {
	drained := make(chan struct{})
	go func() {
		c.pumps.Wait()
		c.closeLog()
		close(drained)
	}()
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	select {
	case <-drained:
	case <-patience.C:
	}
	if err := WriteStatus(c.spec.Dir, c.Status(), true); err != nil {
		s.complain(err)
		c.mu.Lock()
		c.status.Message = err.Error()
		c.mu.Unlock()
	}
	c.mu.Lock()
	for client := range c.clients {
		client.Close()
	}
	if c.stdin != nil && c.stdin != c.terminal {
		c.stdin.Close()
		c.stdin = nil
	}
	c.mu.Unlock()
	close(c.ended)
	s.changed(c.spec.ID)
}

// signal sends sig to the first process. SIGKILL reaches a container that is still being started too: a start
// that hangs can be given up. It also reaches every process of a container without a PID namespace.
func (s *Server) signal(c *container, sig syscall.Signal) error {
	c.mu.Lock()
	state, pid, runcPID := c.status.State, c.status.PID, c.runcPID
	if state == Created && sig == unix.SIGKILL {
		c.killed = true
	}
	c.mu.Unlock()
	switch {
	case state == Running:
		if sig == unix.SIGKILL && c.spec.SharedPID {
			killAll(c.spec.ProcsFile)
		}
		if err := s.reaper.kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		return nil
	case state == Created && sig == unix.SIGKILL:
		if runcPID != 0 {
			s.reaper.kill(runcPID, sig)
		}
		killAll(c.spec.ProcsFile)
		return nil
	default:
		return errNotRunning
	}
}

// release gives back what an exited container still holds.
func (c *container) release() {
	for _, o := range c.outputs {
		o.close()
	}
	c.pumps.Wait()
	c.closeLog()
}

func (c *container) closeLog() {
	scratch.Lock()
	defer scratch.Unlock()
	if c.log != nil {
		c.log.close()
	}
}

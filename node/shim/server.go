package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errNotFound   = errors.New("no such container")
	errNotRunning = errors.New("container is not running")
	errBusy       = errors.New("container is still running")
)

// Server is a shim at work.
type Server struct {
	reaper *reaper
	stop   context.CancelFunc

	mu          sync.Mutex
	containers  map[string]*container
	subscribers map[*subscriber]struct{}
	closing     bool
}

// Serve is the whole life of a shim: it takes over the listening socket at ListenFD and returns after
// OpShutdown. hostname, where not empty, becomes that of the UTS namespace the agent has started the shim in.
func Serve(hostname string) error {
	// Small and steady counts here, speed does not: there is one shim for each pod.
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(4 << 20)
	if err := prepareProcess(hostname); err != nil {
		return err
	}
	listener, err := inheritListener()
	if err != nil {
		return err
	}
	defer listener.Close()
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		reaper: newReaper(), stop: cancel,
		containers: map[string]*container{}, subscribers: map[*subscriber]struct{}{},
	}
	go s.reaper.run(ctx, notifyChildren())
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		fd, err := accept(raw)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		conn, err := newConn(fd, "agent")
		if err != nil {
			s.complain(err)
			continue
		}
		go s.serve(conn)
	}
}

func prepareProcess(hostname string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	if hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set the host name %q: %w", hostname, err)
		}
	}
	// The kernel should prefer any container to its supervisor. Refused without CAP_SYS_RESOURCE, which is
	// no reason not to run.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-998"), 0)
	catchSignals()
	start, err := StartTime(os.Getpid())
	if err != nil {
		return err
	}
	// The working folder is the pod's.
	return os.WriteFile(PIDFile, []byte(strconv.Itoa(os.Getpid())+" "+start), 0o600)
}

// StartTime is when a process started, in clock ticks since the machine did: with the process id it names a
// process for good.
func StartTime(pid int) (string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The command's name may hold anything; what comes after its bracket is fields, start time the 20th.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("process %d: unreadable stat", pid)
	}
	return fields[19], nil
}

func inheritListener() (*os.File, error) {
	unix.CloseOnExec(ListenFD)
	if err := unix.SetNonblock(ListenFD, true); err != nil {
		return nil, fmt.Errorf("file descriptor %d is not the listening socket: %w", ListenFD, err)
	}
	return os.NewFile(ListenFD, SocketFile), nil
}

// complain writes to standard error, which the agent has made LogFile.
func (s *Server) complain(err error) {
	fmt.Fprintf(os.Stderr, "%s %v\n", time.Now().UTC().Format(time.RFC3339Nano), err)
}

// serve answers one connection until it closes.
func (s *Server) serve(conn *Conn) {
	defer conn.Close()
	for {
		var req Request
		fds, err := conn.Recv(&req)
		if err != nil {
			return
		}
		switch req.Op {
		case OpEvents:
			CloseFDs(fds)
			s.events(conn)
			return
		case OpExec:
			s.exec(conn, req, fds)
			return
		case OpAttach:
			s.attach(conn, req, fds)
			return
		}
		CloseFDs(fds)
		if err := conn.Send(s.handle(req)); err != nil {
			return
		}
		if req.Op == OpShutdown {
			s.stop()
			return
		}
	}
}

func (s *Server) handle(req Request) Reply {
	switch req.Op {
	case OpHello:
		return Reply{PID: os.Getpid()}
	case OpStatus:
		return s.status(req.ID)
	case OpRun:
		if req.Run == nil || req.Run.ID == "" || req.Run.Dir == "" {
			return Reply{Code: CodeBad, Error: "run: id and dir are needed"}
		}
		return s.runOp(*req.Run)
	case OpSignal:
		c, err := s.container(req.ID)
		if err == nil {
			err = s.signal(c, syscall.Signal(req.Signal))
		}
		return failure(err)
	case OpWait:
		c, err := s.container(req.ID)
		if err != nil {
			return failure(err)
		}
		<-c.ended
		return Reply{Containers: []Status{c.Status()}}
	case OpForget:
		return failure(s.forget(req.ID))
	case OpShutdown:
		s.shutdown()
		return Reply{}
	}
	return Reply{Code: CodeBad, Error: fmt.Sprintf("unknown request %q", req.Op)}
}

func failure(err error) Reply {
	switch {
	case err == nil:
		return Reply{}
	case errors.Is(err, errNotFound):
		return Reply{Code: CodeNotFound, Error: err.Error()}
	case errors.Is(err, errNotRunning):
		return Reply{Code: CodeNotRunning, Error: err.Error()}
	case errors.Is(err, errBusy):
		return Reply{Code: CodeBusy, Error: err.Error()}
	case errors.As(err, new(errRunc)):
		return Reply{Code: CodeRunc, Error: err.Error()}
	}
	return Reply{Error: err.Error()}
}

func (s *Server) container(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", errNotFound, id)
	}
	return c, nil
}

func (s *Server) status(id string) Reply {
	if id != "" {
		c, err := s.container(id)
		if err != nil {
			return failure(err)
		}
		return Reply{Containers: []Status{c.Status()}}
	}
	return Reply{Containers: s.statuses()}
}

func (s *Server) statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c.Status())
	}
	return all
}

// runOp starts a container, or joins the start of the same one.
func (s *Server) runOp(spec RunSpec) Reply {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return Reply{Code: CodeNotRunning, Error: "the pod is being shut down"}
	}
	c, known := s.containers[spec.ID]
	if !known {
		c = newContainer(spec)
		s.containers[spec.ID] = c
	}
	s.mu.Unlock()
	if !known {
		s.run(c)
		s.changed(spec.ID)
	}
	<-c.started
	return Reply{Containers: []Status{c.Status()}}
}

func (s *Server) forget(id string) error {
	c, err := s.container(id)
	if errors.Is(err, errNotFound) {
		return nil
	}
	select {
	case <-c.ended:
	default:
		return fmt.Errorf("%w: %s", errBusy, id)
	}
	c.release()
	s.mu.Lock()
	delete(s.containers, id)
	s.mu.Unlock()
	return nil
}

// shutdown kills every container and waits for the exits to be on disk.
func (s *Server) shutdown() {
	s.mu.Lock()
	s.closing = true
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		if err := s.signal(c, unix.SIGKILL); err != nil && !errors.Is(err, errNotRunning) {
			s.complain(err)
		}
	}
	for _, c := range all {
		<-c.ended
	}
}

package shim

import (
	"golang.org/x/sys/unix"
)

// exec runs one more process in a container, with the caller's own descriptors as its streams: not a byte passes
// through the shim.
func (s *Server) exec(conn *Conn, req Request, fds []int) {
	reply := func(err error) { conn.Send(failure(err)) }
	c, err := s.container(req.ID)
	if err == nil && c.Status().State != Running {
		err = errNotRunning
	}
	if err != nil || req.Exec == nil || len(fds) != 3 {
		CloseFDs(fds)
		if err == nil {
			conn.Send(Reply{Code: CodeBad, Error: "exec: a process and three file descriptors are needed"})
			return
		}
		reply(err)
		return
	}
	args := []string{"exec", "-d", "-p", req.Exec.Process}
	if req.Exec.Console != "" {
		args = append(args, "--console-socket", req.Exec.Console)
	}
	pid, exit, err := s.do(runcCall{
		runc: req.Exec.Runc, dir: req.Exec.Dir, tag: req.Exec.Process + ".", args: append(args, req.ID),
		files: [3]int(fds), env: runcEnv,
	})
	CloseFDs(fds) // the caller sees the end of the output when the process, and nobody else, has closed it
	if err != nil {
		reply(err)
		return
	}
	gone := hangup(conn)
	if conn.Send(Reply{PID: pid}) != nil {
		s.reaper.kill(pid, unix.SIGKILL)
	}
	for {
		select {
		case ws := <-exit:
			code, _ := exitOf(ws)
			conn.Send(Reply{Exited: true, ExitCode: code})
			return
		case <-gone:
			gone = nil
			s.reaper.kill(pid, unix.SIGKILL)
		}
	}
}

package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files in a container's folder while runc is at work. runc's own --pid-file is not used: it is written with
// O_SYNC, which costs a disk flush for each start.
const (
	runcLogFile = "runc.log"
	pidfdSocket = "pidfd"
	ttySocket   = "tty"
)

// errRunc carries runc's own message.
type errRunc struct{ msg string }

func (e errRunc) Error() string { return e.msg }

// runcCall is one runc process that starts another process and leaves it to the shim.
type runcCall struct {
	runc  Runc
	dir   string   // the container's folder, and the working folder of runc
	tag   string   // unique in dir: prefix of the files of this call
	args  []string // after the global options: the command and its flags
	files [3]int   // standard streams of runc, and of the process where it has no terminal
	env   []string
	// started is told runc's process id, so that a start that hangs can be killed.
	started func(pid int)
}

// do runs runc to its end and returns the process that it left behind: its id and the channel of its exit.
func (s *Server) do(c runcCall) (int, <-chan syscall.WaitStatus, error) {
	s.reaper.begin()
	defer s.reaper.end()
	l, err := listenIn(c.dir, c.tag+pidfdSocket, unix.SOCK_STREAM)
	if err != nil {
		return 0, nil, fmt.Errorf("listen for the pidfd: %w", err)
	}
	defer os.Remove(filepath.Join(c.dir, c.tag+pidfdSocket))
	defer unix.Close(l)
	logPath := filepath.Join(c.dir, c.tag+runcLogFile)
	defer os.Remove(logPath)

	argv := []string{"runc", "--root", c.runc.Root, "--log", logPath, "--log-format", "json", c.args[0],
		"--pidfd-socket", c.tag + pidfdSocket}
	argv = append(argv, c.args[1:]...)
	pid, done, err := s.reaper.start(c.runc.Path, argv, &syscall.ProcAttr{
		Dir: c.dir, Env: c.env, Files: []uintptr{uintptr(c.files[0]), uintptr(c.files[1]), uintptr(c.files[2])},
	})
	if err != nil {
		return 0, nil, err
	}
	if c.started != nil {
		c.started(pid)
	}
	ws := <-done
	if code, sig := exitOf(ws); code != 0 {
		msg := lastError(logPath)
		if msg == "" {
			msg = fmt.Sprintf("runc %s ended with exit code %d, signal %d", c.args[0], code, sig)
		}
		return 0, nil, errRunc{msg}
	}
	child, err := receivePID(l)
	if err != nil {
		return 0, nil, fmt.Errorf("learn the process id from runc: %w", err)
	}
	return child, s.reaper.adopt(child), nil
}

// receivePID takes the pidfd that the new process has sent, and reads from it which process it is. runc has
// ended with success, so the message is there: nothing waits.
func receivePID(listener int) (int, error) {
	conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(conn)
	fd, err := receiveFD(conn)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(v))
			if err == nil && pid > 0 {
				return pid, nil
			}
		}
	}
	return 0, errors.New("the process has gone")
}

func receiveFD(conn int) (int, error) {
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	_, n, _, _, err := unix.Recvmsg(conn, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	fds, err := parseRights(oob[:n])
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		CloseFDs(fds)
		return -1, fmt.Errorf("expected one file descriptor, got %d", len(fds))
	}
	return fds[0], nil
}

// lastError finds the message of the last error in runc's JSON log.
func lastError(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var msg string
	for sc := bufio.NewScanner(bytes.NewReader(data)); sc.Scan(); {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(sc.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			msg = entry.Msg
		}
	}
	if len(msg) > 4096 {
		msg = msg[:4096]
	}
	return msg
}

// ReceiveConsole takes the master end of a new terminal that runc has handed over on a console socket. To be
// called when runc has ended with success: the message is there and nothing waits.
func ReceiveConsole(listener int) (int, error) {
	conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(conn)
	return receiveFD(conn)
}

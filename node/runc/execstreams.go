package runc

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

// lateOutput is how long, after a process has ended, output may stay away before the stream counts as ended: what
// it left running in the background may hold it open for ever.
const lateOutput = time.Second

// execStreams carry one exec's input and output between the caller and the process.
type execStreams struct {
	far     [3]*os.File // the process's ends of the pipes, or /dev/null
	in      *os.File    // this side's ends
	outs    []*os.File
	writers []io.Writer

	console  string // name of the console socket, empty without a terminal
	listener *os.File
	path     string

	ended   atomic.Bool
	copying sync.WaitGroup
}

func openExecStreams(dir, process string, o ExecOptions) (*execStreams, error) {
	s := &execStreams{}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s.far = [3]*os.File{null, null, null}
	if o.TTY {
		s.console = process + ".tty"
		s.path = filepath.Join(dir, s.console)
		if s.listener, err = shim.ListenStream(dir, s.console); err != nil {
			s.close()
			return nil, err
		}
		return s, nil
	}
	if o.Stdin != nil {
		if s.far[0], s.in, err = os.Pipe(); err != nil {
			s.far[0] = null
			s.close()
			return nil, err
		}
	}
	for i, w := range []io.Writer{o.Stdout, o.Stderr} {
		if w == nil {
			continue
		}
		near, far, err := os.Pipe()
		if err != nil {
			s.close()
			return nil, err
		}
		s.far[i+1] = far
		s.outs, s.writers = append(s.outs, near), append(s.writers, w)
	}
	return s, nil
}

// remote are the descriptors to send. They are put into blocking mode, which is what programs expect of their
// standard streams.
func (s *execStreams) remote() []int {
	fds := make([]int, len(s.far))
	for i, f := range s.far {
		fds[i] = int(f.Fd())
		_ = unix.SetNonblock(fds[i], false) // a descriptor of ours: it cannot fail
	}
	return fds
}

// closeRemote closes this process's copies of the far ends, so that an end of output can be seen.
func (s *execStreams) closeRemote() {
	for i, f := range s.far {
		if f != nil {
			f.Close() // /dev/null may stand there three times; closing it again does no harm
		}
		s.far[i] = nil
	}
}

func (s *execStreams) close() {
	s.closeRemote()
	if s.listener != nil {
		s.listener.Close()
		os.Remove(s.path)
	}
	if s.in != nil {
		s.in.Close()
	}
	for _, f := range s.outs {
		f.Close()
	}
	s.copying.Wait()
}

// start begins to copy, once the process runs.
func (s *execStreams) start(o ExecOptions) error {
	if o.TTY {
		if err := s.openTerminal(o); err != nil {
			return err
		}
	}
	if s.in != nil {
		// Not waited for: a reader that never returns, such as a client that only watches, must not hold the
		// exec. It ends with the reader, or with its next byte.
		go func(in *os.File) {
			io.Copy(in, o.Stdin)
			if !o.TTY {
				in.Close()
			}
		}(s.in)
	}
	for i, f := range s.outs {
		s.copying.Go(func() { s.copy(s.writers[i], f) })
	}
	return nil
}

// openTerminal takes the terminal that runc has sent: it is both the input and the output.
func (s *execStreams) openTerminal(o ExecOptions) error {
	fd, err := shim.ReceiveConsole(int(s.listener.Fd()))
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	terminal := os.NewFile(uintptr(fd), "terminal")
	w := o.Stdout
	if w == nil {
		w = io.Discard
	}
	s.outs, s.writers = []*os.File{terminal}, []io.Writer{w}
	if o.Stdin != nil {
		s.in = terminal
	}
	if o.Resize != nil {
		raw, err := terminal.SyscallConn()
		if err != nil {
			return err
		}
		go resize(raw, o.Resize)
	}
	return nil
}

// resize follows the sizes until the channel or the terminal is closed.
func resize(terminal syscall.RawConn, sizes <-chan Size) {
	for size := range sizes {
		err := terminal.Control(func(fd uintptr) {
			// A terminal that is gone needs no size.
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
		})
		if err != nil {
			return
		}
	}
}

// copy moves output until its end. Once the process has ended, silence is an end too.
func (s *execStreams) copy(w io.Writer, f *os.File) {
	buf := make([]byte, 32<<10)
	for {
		if s.ended.Load() {
			f.SetReadDeadline(time.Now().Add(lateOutput))
		}
		n, err := f.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				io.Copy(io.Discard, f) // the process must not be stopped by a reader that has left
				return
			}
			continue
		}
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || s.ended.Load()) {
			return
		}
	}
}

// drain waits for the rest of the output of a process that has ended.
func (s *execStreams) drain(ctx context.Context) {
	s.ended.Store(true)
	for _, f := range s.outs {
		f.SetReadDeadline(time.Now().Add(lateOutput)) // wakes a reader that was waiting without a deadline
	}
	stop := context.AfterFunc(ctx, func() {
		for _, f := range s.outs {
			f.Close()
		}
	})
	defer stop()
	s.copying.Wait()
}

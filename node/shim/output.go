package shim

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attachPatience is how long a client may leave output unread before it is cut off: a stuck client must not
// stop a container for ever.
const attachPatience = 10 * time.Second

// scratch is the shim's one read buffer (a pipe's capacity long) and one buffer of log lines, and the lock that
// goes with them and with every log: containers that are silent hold no memory of their own.
var scratch struct {
	sync.Mutex
	buf [64 << 10]byte
	out []byte // lines that wait to be written to the log; empty while nobody holds the lock
	now [40]byte
}

// output is one stream of a container on its way to the log and to whoever is attached.
type output struct {
	f     *os.File
	raw   syscall.RawConn
	lines lines
	log   *logFile

	mu      sync.Mutex
	clients []*os.File
	ended   bool
}

// newOutput takes a non-blocking descriptor over.
func newOutput(fd int, stream string, log *logFile) (*output, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	o := &output{f: os.NewFile(uintptr(fd), stream), log: log, lines: lines{stream: stream}}
	var err error
	if o.raw, err = o.f.SyscallConn(); err != nil {
		o.f.Close()
		return nil, err
	}
	return o, nil
}

// pump moves the stream until its end. It ends when the last writer has closed it, or after close.
func (o *output) pump() {
	defer o.finish()
	for {
		data, more := o.step()
		if !more {
			return
		}
		o.tee(data)
	}
}

// step waits for output and logs it. The copy is for the clients and nil where there are none.
func (o *output) step() (copied []byte, more bool) {
	var n int
	var rerr error
	err := o.raw.Read(func(fd uintptr) bool {
		scratch.Lock()
		if n, rerr = unix.Read(int(fd), scratch.buf[:]); rerr == unix.EAGAIN {
			scratch.Unlock()
			return false
		}
		return true
	})
	if err != nil {
		return nil, false // closed under us: the lock is not held
	}
	defer scratch.Unlock()
	if rerr == unix.EINTR {
		return nil, true
	}
	if n <= 0 || rerr != nil {
		return nil, false // EIO is a terminal's end of file
	}
	o.lines.write(o.log, time.Now().UTC().AppendFormat(scratch.now[:0], logTime), scratch.buf[:n])
	o.log.flush()
	if o.attached() {
		copied = append(copied, scratch.buf[:n]...)
	}
	return copied, true
}

func (o *output) finish() {
	scratch.Lock()
	o.lines.end(o.log, time.Now().UTC().AppendFormat(scratch.now[:0], logTime))
	o.log.flush()
	scratch.Unlock()

	o.mu.Lock()
	o.ended = true
	o.f.Close()
	for _, c := range o.clients {
		c.Close()
	}
	o.clients = nil
	o.mu.Unlock()
}

func (o *output) attached() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.clients) > 0
}

// tee sends output to the attached clients; one that has gone or does not read is dropped.
func (o *output) tee(data []byte) {
	if len(data) == 0 {
		return
	}
	o.mu.Lock()
	clients := append([]*os.File(nil), o.clients...)
	o.mu.Unlock()
	for _, c := range clients {
		c.SetWriteDeadline(time.Now().Add(attachPatience))
		if _, err := c.Write(data); err != nil {
			o.detach(c)
		}
	}
}

// attach takes the client over and sends it what is to come.
func (o *output) attach(c *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		c.Close()
		return
	}
	o.clients = append(o.clients, c)
}

func (o *output) detach(c *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.clients {
		if o.clients[i] == c {
			o.clients = append(o.clients[:i], o.clients[i+1:]...)
			c.Close()
			return
		}
	}
}

// close stops the pump, whatever is left unread.
func (o *output) close() { o.f.Close() }

package jetstream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// window is how many bytes a side may have on the way and unread by the other's reader.
	window = 1 << 20
	// chunk is the most that one frame carries.
	chunk = 32 << 10
)

// tunnelConn is one end of a tunnel: a net.Conn over NATS messages. NATS may lose messages when a connection
// breaks, so bytes are numbered, acknowledged, and sent again. The pump (see tunnelpump.go) does what is not done
// by a caller; it ends with the stream.
type tunnelConn struct {
	conn     *Conn
	node     string
	sub      *nats.Subscription
	peer     string // subject of the other end
	readEnd  *deadline
	writeEnd *deadline
	kick     chan struct{} // holds a token when the pump should look

	writing sync.Mutex // held over a Write, so that one's bytes stay together

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a reader or writer should look again; nil: none waits
	in      inbound
	out     outbound
	closed  bool      // by our side
	closeAt time.Time // when closed
	failure error     // why nothing can be sent any more
	heard   time.Time // when the other end last said something
	gone    time.Time // since when nobody listens at the other end; zero: somebody does
}

// inbound is what has come from the other end.
type inbound struct {
	queue    [][]byte
	received uint64 // bytes before it have arrived
	consumed uint64 // bytes before it were read
	granted  uint64 // the limit that was last announced
	fin      bool
}

// outbound is what goes to the other end.
type outbound struct {
	unacked  []sentFrame
	sent     uint64 // bytes before it were sent
	acked    uint64
	limit    uint64 // bytes before it may be sent
	fin      bool
	progress time.Time // when an ack last moved acked, or something was sent while nothing was under way
	resend   time.Duration
}

type sentFrame struct {
	end   uint64 // acked when acked reaches it
	bytes []byte
}

var _ net.Conn = (*tunnelConn)(nil)

func newTunnelConn(c *Conn, node, own, peer string) (*tunnelConn, error) {
	s := &tunnelConn{conn: c, node: node, peer: peer, readEnd: newDeadline(), writeEnd: newDeadline(), kick: make(chan struct{}, 1), heard: time.Now()}
	s.in.granted, s.out.limit, s.out.resend = window, window, resendAfter
	sub, err := c.nc.Subscribe(own, s.receive)
	if err != nil {
		return nil, classify(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // the window is the limit
		return nil, classify(err)
	}
	s.sub = sub
	go s.pump()
	return s, nil
}

// Read implements net.Conn.
func (s *tunnelConn) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		if n := s.in.read(p); n > 0 || len(p) == 0 && !s.closed {
			ack, due := s.in.grant()
			s.mu.Unlock()
			if due {
				s.send(ack)
			}
			return n, nil
		}
		err := s.readError()
		wait := s.waiter()
		s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		select {
		case <-wait:
		case <-s.readEnd.wait():
			return 0, s.opError("read", os.ErrDeadlineExceeded)
		}
	}
}

// readError says why nothing more will come; nil where something may.
func (s *tunnelConn) readError() error {
	switch {
	case s.closed:
		return s.opError("read", net.ErrClosed)
	case isClosed(s.readEnd.wait()):
		return s.opError("read", os.ErrDeadlineExceeded)
	case s.in.fin:
		return io.EOF
	case s.failure != nil:
		return s.opError("read", s.failure)
	}
	return nil
}

func (in *inbound) read(p []byte) int {
	n := 0
	for n < len(p) && len(in.queue) > 0 {
		m := copy(p[n:], in.queue[0])
		n += m
		if in.queue[0] = in.queue[0][m:]; len(in.queue[0]) == 0 {
			in.queue[0] = nil
			in.queue = in.queue[1:]
		}
	}
	in.consumed += uint64(n)
	return n
}

// grant makes an ack when enough was read for the other end to send more.
func (in *inbound) grant() (frame, bool) {
	if in.consumed+window < in.granted+window/4 {
		return frame{}, false
	}
	return in.ack(), true
}

// ack tells what has arrived and what may come.
func (in *inbound) ack() frame {
	in.granted = in.consumed + window
	received := in.received
	if in.fin {
		received++
	}
	return frame{kind: frameAck, a: received, b: in.granted}
}

// Write implements net.Conn.
func (s *tunnelConn) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n := 0
	for {
		s.mu.Lock()
		err := s.writeError()
		f, m := frame{}, 0
		if err == nil && len(p) > n {
			f, m = s.out.next(p[n:])
		}
		var bytes []byte
		if m > 0 {
			bytes = s.keep(f)
		}
		wait := s.waiter()
		s.mu.Unlock()
		if err != nil || len(p) == n {
			return n, err
		}
		if m > 0 {
			s.publish(bytes)
			n += m
			continue
		}
		select {
		case <-wait:
		case <-s.writeEnd.wait():
		}
	}
}

func (s *tunnelConn) writeError() error {
	switch {
	case s.closed || s.out.fin:
		return s.opError("write", net.ErrClosed)
	case isClosed(s.writeEnd.wait()):
		return s.opError("write", os.ErrDeadlineExceeded)
	case s.failure != nil:
		return s.opError("write", s.failure)
	}
	return nil
}

// next cuts off what may be sent now.
func (o *outbound) next(p []byte) (frame, int) {
	if o.sent >= o.limit {
		return frame{}, 0
	}
	n := min(len(p), chunk, int(o.limit-o.sent))
	return frame{kind: frameData, a: o.sent, payload: p[:n]}, n
}

// keep remembers a frame until it is acknowledged. s.mu is held.
func (s *tunnelConn) keep(f frame) []byte {
	o := &s.out
	if len(o.unacked) == 0 {
		o.progress = time.Now()
		s.nudge() // the pump looks after it from now on
	}
	bytes := f.encode()
	if o.sent += uint64(len(f.payload)); f.kind == frameFin {
		o.sent++
	}
	o.unacked = append(o.unacked, sentFrame{end: o.sent, bytes: bytes})
	return bytes
}

// CloseWrite tells the other end that nothing more will come; reading goes on.
func (s *tunnelConn) CloseWrite() error { return s.closeWrite() }

func (s *tunnelConn) closeWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.out.fin || s.failure != nil {
		s.mu.Unlock()
		return nil
	}
	bytes := s.keep(frame{kind: frameFin, a: s.out.sent})
	s.out.fin = true
	s.mu.Unlock()
	s.publish(bytes)
	return nil
}

// Close implements net.Conn. What was written still arrives, if the other end lives.
func (s *tunnelConn) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed, s.closeAt = true, time.Now()
	s.in.queue = nil
	s.notify()
	s.mu.Unlock()
	s.nudge() // the pump sends the fin, after any Write that is under way
	return nil
}

// waiter gives a channel that closes at the next change. s.mu is held.
func (s *tunnelConn) waiter() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// notify wakes readers and writers. s.mu is held.
func (s *tunnelConn) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// nudge has the pump look.
func (s *tunnelConn) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// send publishes a frame that is not kept.
func (s *tunnelConn) send(f frame) { s.publish(f.encode()) }

// publish may fail while the connection is down: what matters is sent again when it is back.
func (s *tunnelConn) publish(bytes []byte) { _ = s.conn.nc.Publish(s.peer, bytes) }

func (s *tunnelConn) opError(op string, err error) error {
	if errors.Is(err, syscall.ECONNRESET) && op == "write" {
		err = syscall.EPIPE
	}
	return &net.OpError{Op: op, Net: TunnelRoot, Addr: s.RemoteAddr(), Err: err}
}

// LocalAddr implements net.Conn.
func (s *tunnelConn) LocalAddr() net.Addr { return tunnelAddr(s.sub.Subject) }

// RemoteAddr implements net.Conn.
func (s *tunnelConn) RemoteAddr() net.Addr { return tunnelAddr(s.node) }

// SetDeadline implements net.Conn.
func (s *tunnelConn) SetDeadline(t time.Time) error {
	s.readEnd.set(t)
	s.writeEnd.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *tunnelConn) SetReadDeadline(t time.Time) error {
	s.readEnd.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *tunnelConn) SetWriteDeadline(t time.Time) error {
	s.writeEnd.set(t)
	return nil
}

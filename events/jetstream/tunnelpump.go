package jetstream

import (
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// resendAfter is how long frames may go unacknowledged before they are sent again, at first; it doubles
	// up to resendAtMost.
	resendAfter  = 300 * time.Millisecond
	resendAtMost = 3 * time.Second
	// pingEvery is how often an idle stream makes sure of its other end, pingGone how often while nobody is
	// there.
	pingEvery = 15 * time.Second
	pingGone  = time.Second
	// goneFor is how long the other end may be without subscription (its connection is being restored)
	// before the stream breaks; silentFor the same where nothing is heard at all.
	goneFor   = 10 * time.Second
	silentFor = 60 * time.Second
	// lingerFor is how long a closed stream goes on delivering what was written.
	lingerFor = 10 * time.Second
)

// receive handles a message from the other end. It runs on the connection's goroutine for this stream.
func (s *tunnelConn) receive(m *nats.Msg) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // the answer to a ping: nobody listens
		s.mu.Lock()
		if s.gone.IsZero() {
			s.gone = time.Now()
		}
		s.mu.Unlock()
		s.nudge()
		return
	}
	f, err := parseFrame(m.Data)
	if err != nil {
		s.fail(err)
		return
	}
	s.mu.Lock()
	s.heard, s.gone = time.Now(), time.Time{}
	var answer *frame
	switch f.kind {
	case frameData:
		answer = s.receiveData(f)
	case frameFin:
		if f.a == s.in.received {
			s.in.fin = true
			s.notify()
		}
		ack := s.in.ack()
		answer = &ack
	case frameAck:
		s.receiveAck(f)
	case framePing:
		ack := s.in.ack()
		answer = &ack
	case frameReset:
		s.breakOff(syscall.ECONNRESET)
	}
	s.mu.Unlock()
	if answer != nil {
		s.send(*answer)
	}
}

// receiveData takes data in. s.mu is held.
func (s *tunnelConn) receiveData(f frame) *frame {
	end := f.a + uint64(len(f.payload))
	switch {
	case s.closed && end > s.in.received:
		s.in.received = end // nobody will read it: the other end should stop
		return &frame{kind: frameReset, payload: []byte("closed")}
	case end > s.in.granted:
		s.breakOff(fmt.Errorf("%w: beyond the window", errFrame))
		return &frame{kind: frameReset, payload: []byte("beyond the window")}
	case f.a <= s.in.received && end > s.in.received && !s.in.fin:
		s.in.queue = append(s.in.queue, f.payload[s.in.received-f.a:])
		s.in.received = end
		s.notify()
	}
	// Old data and data after a hole are answered as well: the ack says what is missing.
	ack := s.in.ack()
	return &ack
}

// receiveAck frees what has arrived. s.mu is held.
func (s *tunnelConn) receiveAck(f frame) {
	o := &s.out
	o.limit = max(o.limit, f.b)
	if f.a > o.acked && f.a <= o.sent {
		o.acked, o.progress, o.resend = f.a, time.Now(), resendAfter
		n := 0
		for n < len(o.unacked) && o.unacked[n].end <= o.acked {
			o.unacked[n].bytes = nil
			n++
		}
		if o.unacked = o.unacked[n:]; len(o.unacked) == 0 {
			o.unacked = nil
		}
	}
	s.notify()
	if s.closed {
		s.nudge()
	}
}

// breakOff ends the stream for want of its other end. s.mu is held.
func (s *tunnelConn) breakOff(err error) {
	if s.failure == nil {
		s.failure = err
		s.notify()
		s.nudge()
	}
}

func (s *tunnelConn) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakOff(err)
}

// abandon ends a stream that never was.
func (s *tunnelConn) abandon(err error) {
	s.fail(err)
	_ = s.Close() // cannot fail
}

// pump sends again, asks whether the other end is there, and sees a closed stream off.
func (s *tunnelConn) pump() {
	defer s.end()
	_, reconnected := s.conn.connection()
	pinged := time.Now()
	for {
		timer := time.NewTimer(s.untilDue(pinged))
		again := false
		select {
		case <-timer.C:
		case <-s.kick:
		case <-s.conn.done:
			s.fail(fmt.Errorf("connection to the log: %w", net.ErrClosed))
		case <-reconnected: // whatever was under way may be lost
			_, reconnected = s.conn.connection()
			again = true
		}
		timer.Stop()
		if s.seeOff() {
			return
		}
		s.resend(again)
		if again || time.Since(pinged) >= s.pingInterval() {
			pinged = time.Now()
			s.ping()
		}
	}
}

// untilDue is how long the pump may rest unless something happens.
func (s *tunnelConn) untilDue(pinged time.Time) time.Duration {
	due := time.Until(pinged.Add(s.pingInterval()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out.unacked) > 0 {
		due = min(due, time.Until(s.out.progress.Add(s.out.resend)))
	}
	if s.closed {
		due = min(due, time.Until(s.closeAt.Add(lingerFor)))
	}
	return max(due, time.Millisecond)
}

func (s *tunnelConn) pingInterval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.IsZero() {
		return pingEvery
	}
	return pingGone
}

// ping asks the other end for an ack, and the server to say so where nobody listens.
func (s *tunnelConn) ping() {
	_ = s.conn.nc.PublishRequest(s.peer, s.sub.Subject, frame{kind: framePing}.encode()) // asked again before long
}

// resend sends what is unacknowledged, where that is due or the connection was replaced.
func (s *tunnelConn) resend(now bool) {
	s.mu.Lock()
	o := &s.out
	if len(o.unacked) == 0 || !now && time.Since(o.progress) < o.resend {
		s.mu.Unlock()
		return
	}
	o.progress, o.resend = time.Now(), min(2*o.resend, resendAtMost)
	frames := slices.Clone(o.unacked)
	s.mu.Unlock()
	for _, f := range frames {
		s.publish(f.bytes)
	}
}

// seeOff reports whether the pump is through: the stream is broken, or closed and all of it delivered.
func (s *tunnelConn) seeOff() bool {
	s.finishIfClosed()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.gone.IsZero() && time.Since(s.gone) > goneFor, time.Since(s.heard) > silentFor:
		s.breakOff(syscall.ETIMEDOUT)
	case s.closed && s.failure == nil && (len(s.out.unacked) == 0 || time.Since(s.closeAt) > lingerFor):
		if !s.in.fin || len(s.out.unacked) > 0 {
			s.send(frame{kind: frameReset, payload: []byte("closed")})
		}
		s.breakOff(net.ErrClosed)
	}
	return s.failure != nil
}

// finishIfClosed sends the fin of a closed stream.
func (s *tunnelConn) finishIfClosed() {
	s.mu.Lock()
	due := s.closed && !s.out.fin && s.failure == nil
	s.mu.Unlock()
	if due {
		_ = s.closeWrite() // after a Write that is under way, which ends at once as the stream is closed
	}
}

func (s *tunnelConn) end() {
	_ = s.sub.Unsubscribe() // fails only where the connection is closed, which ends it as well
}

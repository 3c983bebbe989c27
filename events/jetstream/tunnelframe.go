package jetstream

import (
	"encoding/binary"
	"errors"
)

// A tunnel's frame is one NATS message: a kind, two numbers and a payload.
//
//	data   a: offset of the payload in the stream of bytes
//	fin    a: length of the stream: no more data comes. It takes up one more byte of the numbering
//	ack    a: all bytes before it have arrived; b: bytes before it may be sent
//	reset  payload: why the stream is broken off
//	ping   asks for an ack
type frameKind byte

const (
	frameData  frameKind = 'D'
	frameFin   frameKind = 'F'
	frameAck   frameKind = 'A'
	frameReset frameKind = 'R'
	framePing  frameKind = 'P'
)

const frameHeader = 1 + 8 + 8

var errFrame = errors.New("malformed tunnel frame")

type frame struct {
	kind    frameKind
	a, b    uint64
	payload []byte
}

func (f frame) encode() []byte {
	out := make([]byte, frameHeader, frameHeader+len(f.payload))
	out[0] = byte(f.kind)
	binary.BigEndian.PutUint64(out[1:], f.a)
	binary.BigEndian.PutUint64(out[9:], f.b)
	return append(out, f.payload...)
}

// parseFrame reads a frame; its payload is part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHeader {
		return frame{}, errFrame
	}
	f := frame{kind: frameKind(b[0]), a: binary.BigEndian.Uint64(b[1:]), b: binary.BigEndian.Uint64(b[9:]), payload: b[frameHeader:]}
	switch f.kind {
	case frameData, frameFin, frameAck, frameReset, framePing:
		return f, nil
	}
	return frame{}, errFrame
}

// SPDX-License-Identifier: Apache-2.0

// Package channel is the guest's end of the agent channel: finding the port, frames, the handshake and the
// yamux session on top. The wire is described in proto/microvm/v1/channel.proto.
package channel

import (
	"encoding/binary"
	"errors"
	"io"
)

// MaxRequest bounds a Request; the host sends none that is longer.
const MaxRequest = 4 << 20

// MaxControl bounds every other frame.
const MaxControl = 64 << 10

// ErrFrameTooLarge is returned before anything is allocated for the frame.
var ErrFrameTooLarge = errors.New("frame too large")

// Message is what the generated code gives every protobuf message.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

const headerSize = 4

// WriteFrame writes one message in one Write.
func WriteFrame(w io.Writer, message Message) error {
	size := message.SizeVT()
	frame := make([]byte, headerSize+size)
	binary.BigEndian.PutUint32(frame, uint32(size))
	if _, err := message.MarshalToSizedBufferVT(frame[headerSize:]); err != nil {
		return err
	}
	_, err := w.Write(frame)
	return err
}

// ReadFrame reads one message of at most limit bytes. io.EOF means the peer closed between two frames.
func ReadFrame(r io.Reader, limit int, message Message) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(header[:])
	if uint64(size) > uint64(limit) {
		return ErrFrameTooLarge
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return message.UnmarshalVT(body)
}

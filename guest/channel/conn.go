// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"io"
	"sync"
)

const (
	yamuxHeaderSize = 12
	yamuxData       = 0 // the type of frame that has a body

	// joinSize is how much is written at once: two of the longest messages a virtio-serial port can send.
	joinSize = 64 << 10

	// BodySize is a good size for the body of a frame: with its header it is written at once.
	BodySize = joinSize - yamuxHeaderSize
)

// conn joins small writes. yamux writes each frame's header and body one after the other and each frame of a burst
// by itself, and on a virtio port each write is a message of its own, which interrupts the guest and wakes the host.
//
// It is yamux's sender that writes, one frame at a time; Cork and Uncork may be called by others meanwhile.
type conn struct {
	io.ReadWriteCloser

	mu      sync.Mutex
	corked  bool
	body    bool   // the next write is the body of the header written last
	pending []byte // at most joinSize, written before anything else
}

func newConn(raw io.ReadWriteCloser) *conn {
	return &conn{ReadWriteCloser: raw, pending: make([]byte, 0, joinSize)}
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	header := !c.body && len(p) == yamuxHeaderSize && p[1] == yamuxData && p[8]|p[9]|p[10]|p[11] != 0
	c.body = header
	written := 0
	for len(p)-written > cap(c.pending)-len(c.pending) {
		if len(c.pending) == 0 && !header {
			n, err := c.ReadWriteCloser.Write(p[written:])
			return written + n, err
		}
		room := cap(c.pending) - len(c.pending)
		c.pending = append(c.pending, p[written:written+room]...)
		written += room
		if err := c.flush(); err != nil {
			return written, err
		}
	}
	c.pending = append(c.pending, p[written:]...)
	if header || c.corked {
		return len(p), nil
	}
	return len(p), c.flush()
}

// flush writes what is pending.
func (c *conn) flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	_, err := c.ReadWriteCloser.Write(c.pending)
	c.pending = c.pending[:0]
	return err
}

// Cork holds small writes back until Uncork or until they fill a write. Nothing may be waited for in between that
// the host has to do.
func (c *conn) Cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// Uncork writes what was held back, for everybody who corked. A failure shows in the next write.
func (c *conn) Uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if !c.body {
		_ = c.flush() // the reader finds the channel broken as well
	}
}

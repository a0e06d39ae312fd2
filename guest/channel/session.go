// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/yamux"

	pb "microvm.internal/guest/gen/microvmv1"
)

// Protocol is the version of the schema this guest speaks.
const Protocol = 1

// ErrProtocol is returned when host and guest speak different versions.
var ErrProtocol = errors.New("host speaks another protocol")

const (
	windowSize = 1 << 20
	backlog    = 1024
	// A paused host, or a VM that was suspended for a year, is no error.
	never = time.Duration(math.MaxInt64)
)

// Open exchanges Hellos on conn and starts the session. The host's Hello and calls may have been written long
// before: nothing here waits for more than one message.
func Open(conn io.ReadWriteCloser, version string) (*yamux.Session, error) {
	if err := WriteFrame(conn, &pb.Hello{Protocol: Protocol, Version: version}); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	var hello pb.Hello
	if err := ReadFrame(conn, MaxControl, &hello); err != nil {
		return nil, fmt.Errorf("receive hello: %w", err)
	}
	if hello.Protocol != Protocol {
		return nil, fmt.Errorf("%w: %d, not %d (host %s)", ErrProtocol, hello.Protocol, Protocol, hello.Version)
	}
	return yamux.Server(&writer{ReadWriteCloser: conn}, &yamux.Config{
		AcceptBacklog:          backlog,
		KeepAliveInterval:      never,
		ConnectionWriteTimeout: never,
		MaxStreamWindowSize:    windowSize,
		Logger:                 logger{},
	})
}

// Flushed waits until the host has read everything sent so far, or for at most the given time.
func Flushed(session *yamux.Session, limit time.Duration) {
	answered := make(chan struct{})
	go func() {
		_, _ = session.Ping() // fails when the session has ended, which is an answer too
		close(answered)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
}

// writer joins a frame's header with its body: yamux writes them one after the other, and on a virtio port each
// write is a message to the host of its own.
type writer struct {
	io.ReadWriteCloser
	pending []byte
	joined  []byte
}

const (
	yamuxHeaderSize = 12
	yamuxData       = 0 // the frame type that has a body
	joinLimit       = 32 << 10
)

func (w *writer) Write(p []byte) (int, error) {
	if w.pending == nil {
		if len(p) == yamuxHeaderSize && p[1] == yamuxData && p[8]|p[9]|p[10]|p[11] != 0 {
			w.pending = append(w.joined[:0], p...)
			return len(p), nil
		}
		return w.ReadWriteCloser.Write(p)
	}
	// One copy of at most a port's longest message; the rest of a large body goes as it is.
	first := min(len(p), joinLimit-yamuxHeaderSize)
	w.joined = append(w.pending, p[:first]...)
	w.pending = nil
	if _, err := w.ReadWriteCloser.Write(w.joined); err != nil {
		return 0, err
	}
	if first < len(p) {
		if _, err := w.ReadWriteCloser.Write(p[first:]); err != nil {
			return first, err
		}
	}
	return len(p), nil
}

// logger turns yamux's lines into records: its warnings are about late frames of streams already gone.
type logger struct{}

func (logger) Print(v ...any)                 { logLine(fmt.Sprint(v...)) }
func (logger) Println(v ...any)               { logLine(fmt.Sprint(v...)) }
func (logger) Printf(format string, v ...any) { logLine(fmt.Sprintf(format, v...)) }

func logLine(line string) {
	if rest, isError := strings.CutPrefix(line, "[ERR] yamux: "); isError {
		slog.Warn("channel: " + rest)
	}
}

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
	backlog    = 8192 // unanswered streams, in each direction
	// A paused host, or a VM that was suspended for a year, is no error.
	never = time.Duration(math.MaxInt64)
)

// Session is a yamux session with the host.
type Session struct {
	*yamux.Session
	conn *conn
}

// Cork holds frames back until Uncork, so that a burst of them is one message. Nothing may be waited for in between
// that the host has to do.
func (s *Session) Cork() { s.conn.Cork() }

// Uncork sends what was held back.
func (s *Session) Uncork() { s.conn.Uncork() }

// Open exchanges Hellos on conn and starts the session. The host's Hello and calls may have been written long
// before: nothing here waits for more than one message.
func Open(raw io.ReadWriteCloser, version string) (*Session, error) {
	if err := WriteFrame(raw, &pb.Hello{Protocol: Protocol, Version: version}); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	var hello pb.Hello
	if err := ReadFrame(raw, MaxControl, &hello); err != nil {
		return nil, fmt.Errorf("receive hello: %w", err)
	}
	if hello.Protocol != Protocol {
		return nil, fmt.Errorf("%w: %d, not %d (host %s)", ErrProtocol, hello.Protocol, Protocol, hello.Version)
	}
	joined := newConn(raw)
	session, err := yamux.Server(joined, &yamux.Config{
		AcceptBacklog:          backlog,
		KeepAliveInterval:      never,
		ConnectionWriteTimeout: never,
		MaxStreamWindowSize:    windowSize,
		Logger:                 logger{},
	})
	if err != nil {
		return nil, fmt.Errorf("yamux: %w", err)
	}
	return &Session{Session: session, conn: joined}, nil
}

// Flushed waits until the host has read everything sent so far, or for at most the given time.
func (s *Session) Flushed(limit time.Duration) {
	answered := make(chan struct{})
	go func() {
		_, _ = s.Ping() // fails when the session has ended, which is an answer too
		close(answered)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
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

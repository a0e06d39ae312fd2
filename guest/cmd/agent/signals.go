// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/crash"
)

// poweroffGrace is how long processes get when somebody inside ends the machine.
const poweroffGrace = 10 * time.Second

// obeySignals makes the signals that poweroff(8), halt(8), reboot(8) and ctrl-alt-del send to PID 1 an orderly
// shutdown. The others that Go would die of are ignored: the end of PID 1 is a kernel panic.
func (a *agent) obeySignals() {
	defer crash.Guard()
	select {
	case <-a.booted: // until then there is nobody to send any
	case <-a.session.CloseChan():
		return
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR,
		unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	for received := range signals {
		switch received {
		case unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE:
		default:
			slog.Info("shutting down on a signal from inside", "signal", received.String())
			a.shutdown(nil, poweroffGrace)
		}
	}
}

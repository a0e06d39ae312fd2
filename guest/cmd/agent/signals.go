// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// poweroffGrace is how long processes get when somebody inside ends the machine.
const poweroffGrace = 10 * time.Second

// catchSignals makes the signals that poweroff(8), halt(8), reboot(8) and ctrl-alt-del send to PID 1 an orderly
// shutdown. The others that Go would die of are ignored: the end of PID 1 is a kernel panic.
func catchSignals() func(*agent) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR,
		unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	return func(a *agent) {
		for received := range signals {
			switch received {
			case unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE:
			default:
				slog.Info("shutting down on a signal from inside", "signal", received.String())
				a.shutdown(nil, poweroffGrace)
			}
		}
	}
}

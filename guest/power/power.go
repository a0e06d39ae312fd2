// SPDX-License-Identifier: Apache-2.0

// Package power ends the machine.
package power

import (
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/reaper"
)

// killWait is how long processes may take to die of SIGKILL: longer only if a device hangs.
const killWait = 2 * time.Second

// StopProcesses ends every process but this one: SIGTERM, and SIGKILL to what is left after grace. For an agent
// that is not PID 1 it ends those that the agent started and their descendants.
func StopProcesses(children *reaper.Reaper, grace time.Duration) {
	children.Seal()
	idle := children.Idle()
	if grace > 0 {
		signalAll(children, unix.SIGTERM)
		if within(idle, grace) {
			return
		}
	}
	signalAll(children, unix.SIGKILL)
	if !within(idle, killWait) {
		slog.Warn("power: some processes cannot be killed")
	}
}

func signalAll(children *reaper.Reaper, signal unix.Signal) {
	if os.Getpid() != 1 {
		// kill(-1) would reach the whole host. A group is signalled as one, whoever is forking in it; the rest are
		// those that left their group or outlived its leader.
		children.SignalGroups(signal)
		signalDescendants(signal)
		return
	}
	_ = unix.Kill(-1, signal) // ESRCH: there is nobody else
}

func within(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Off resets the machine at once; the VMM is started so that a reset ends it. It does not return.
func Off() {
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		slog.Error("power: reboot", "error", err)
	}
	os.Exit(1) // the end of PID 1 is a kernel panic, which resets too
}

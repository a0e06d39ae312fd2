// SPDX-License-Identifier: Apache-2.0

// Command agent is a microVM's PID 1: it boots the machine as the host asks, and starts processes in it.
//
// Given "--native FD" it serves the same channel on an inherited socket, on a machine that is running already.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/boot"
	"microvm.internal/guest/channel"
	"microvm.internal/guest/console"
	"microvm.internal/guest/crash"
	"microvm.internal/guest/power"
	"microvm.internal/guest/reaper"
)

// version is set by the linker.
var version = "dev"

const portName = "agent"

func main() {
	began := boot.Now()
	slog.SetDefault(slog.New(console.NewHandler(os.Stderr, slog.LevelInfo)))
	if len(os.Args) == 3 && os.Args[1] == "--native" {
		if err := native(os.Args[2]); err != nil {
			slog.Error(err.Error())
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "usage: agent --native FD, or as /init of a microVM")
		os.Exit(2)
	}
	crash.End = power.Off
	err := initialise(began)
	slog.Error("fatal: " + err.Error())
	power.Off()
}

// initialise serves the host until the machine ends. It only returns if that fails.
func initialise(began uint64) error {
	defer crash.Guard()
	if err := boot.Early(); err != nil {
		return err
	}
	port, err := channel.OpenPort(portName)
	if err != nil {
		return err
	}
	session, err := channel.Open(port, version)
	if err != nil {
		return err
	}
	agent := newAgent(session, reaper.New(), false)
	agent.began = began
	go agent.obeySignals()
	err = agent.serve()
	slog.Error("the channel to the host is lost", "error", err)
	power.StopProcesses(agent.children, 0)
	unix.Sync()
	power.Off()
	return nil
}

// native serves on an inherited socket until the other side closes it.
func native(fd string) error {
	number, err := strconv.ParseUint(fd, 10, 31)
	if err != nil {
		return fmt.Errorf("native: not a file descriptor: %q", fd)
	}
	if err := unix.SetNonblock(int(number), true); err != nil {
		return fmt.Errorf("native: descriptor %d: %w", number, err)
	}
	unix.CloseOnExec(int(number))
	// Orphans come to this process as they would to PID 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("native: become a subreaper: %w", err)
	}
	session, err := channel.Open(os.NewFile(uintptr(number), "channel"), version)
	if err != nil {
		return fmt.Errorf("native: %w", err)
	}
	agent := newAgent(session, reaper.New(), true)
	slog.Debug("the channel has ended", "error", agent.serve())
	power.StopProcesses(agent.children, 0)
	return nil
}

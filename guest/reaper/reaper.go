// SPDX-License-Identifier: Apache-2.0

// Package reaper collects every child of this process, its own and the orphans that PID 1 inherits, and never
// loses or steals a status: nothing else in the agent may wait for a process.
package reaper

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/crash"
)

// Status is how a process ended: Signal if that is not zero, else Code.
type Status struct {
	Code   int
	Signal int
}

// Process is one child started with Start.
type Process struct {
	reaper *Reaper
	pid    int
	done   chan struct{}
	status Status
}

// Pid is the process's id, and its process group's.
func (p *Process) Pid() int { return p.pid }

// Done is closed once the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status may be read after Done.
func (p *Process) Status() Status { return p.status }

// SignalGroup signals the process group that p leads. Once p was reaped it does nothing: its id may belong to
// somebody else by then.
func (p *Process) SignalGroup(signal unix.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.processes[p.pid] != p {
		return unix.ESRCH
	}
	return unix.Kill(-p.pid, signal)
}

// Reaper waits for children.
type Reaper struct {
	mu        sync.Mutex
	changed   *sync.Cond // forks or idle
	processes map[int]*Process
	forks     uint64 // counts Start: tells "no children" from "no children when I looked"
	idle      bool   // there are no children at all, running or dead
	sealed    bool   // nothing is to be started any more
}

// ErrSealed is returned by Start after Seal.
var ErrSealed = errors.New("the machine is shutting down")

// New returns a Reaper that reaps from now on.
func New() *Reaper {
	r := &Reaper{processes: make(map[int]*Process), idle: true}
	r.changed = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// Start runs fork, which must return the pid of a new child that leads its own process group. No status can
// be collected between the fork and the registration.
func (r *Reaper) Start(fork func() (int, error)) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sealed {
		return nil, ErrSealed
	}
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	if pid <= 1 {
		return nil, fmt.Errorf("fork returned pid %d", pid) // kill(-1) and kill(0) must be impossible
	}
	process := &Process{reaper: r, pid: pid, done: make(chan struct{})}
	r.processes[pid] = process
	r.forks++
	r.idle = false
	r.changed.Broadcast()
	return process, nil
}

// Seal makes every later Start fail. When it returns, whatever was started can be signalled.
func (r *Reaper) Seal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sealed = true
}

// SignalGroups signals the process group of every process started and not yet reaped.
func (r *Reaper) SignalGroups(signal unix.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.processes {
		_ = unix.Kill(-pid, signal) // ESRCH: a zombie whose group is gone
	}
}

// Idle returns a channel that is closed once there are no children at all.
func (r *Reaper) Idle() <-chan struct{} {
	idle := make(chan struct{})
	go func() {
		r.mu.Lock()
		for !r.idle {
			r.changed.Wait()
		}
		r.mu.Unlock()
		close(idle)
	}()
	return idle
}

func (r *Reaper) run() {
	defer crash.Guard()
	for {
		r.mu.Lock()
		forks := r.forks
		r.mu.Unlock()

		pid, err := nextDead()
		switch {
		case err == nil:
			r.reap(pid)
		case err == unix.EINTR:
		case err == unix.ECHILD:
			// Without a child there is no descendant either, so nothing can be inherited before the next fork.
			r.mu.Lock()
			for r.forks == forks {
				if !r.idle {
					r.idle = true
					r.changed.Broadcast()
				}
				r.changed.Wait()
			}
			r.mu.Unlock()
		default:
			panic("wait for children: " + err.Error())
		}
	}
}

// reap collects one dead child under the lock that Start holds while it forks and registers.
func (r *Reaper) reap(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	if err != nil || got != pid {
		return // a fork whose exec failed, collected by the fork itself
	}
	process := r.processes[pid]
	if process == nil {
		slog.Debug("reaped an orphan", "pid", pid)
		return
	}
	delete(r.processes, pid)
	if status.Signaled() {
		process.status.Signal = int(status.Signal())
	} else {
		process.status.Code = status.ExitStatus()
	}
	close(process.done)
}

// nextDead blocks until some child is dead and returns its pid without reaping it.
func nextDead() (int, error) {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return 0, err
	}
	// siginfo_t on 64-bit Linux: signo, errno, code, padding, then si_pid.
	const pidOffset = 16
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), pidOffset))), nil
}

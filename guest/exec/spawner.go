// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/crash"
	pb "microvm.internal/guest/gen/microvmv1"
	"microvm.internal/guest/reaper"
)

// spawner forks every process from one thread that does nothing else and never ends. The thread has a working
// directory of its own, so that entering the new process's directory is tried, and fails, apart from executing
// its program; and what a child inherits from a thread (its directory, the death signal's parent) is the same for
// all of them.
type spawner struct {
	jobs chan func()
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		defer crash.Guard()
		runtime.LockOSThread()
		ready <- unix.Unshare(unix.CLONE_FS)
		for job := range s.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		panic("unshare the spawning thread's directory: " + err.Error())
	}
	return s
}

// command is a process to be.
type command struct {
	args      []string
	env       []string
	directory string
	createDir bool
	files     [3]int
	attr      syscall.SysProcAttr
}

// start returns a *Failure if nothing was started.
func (s *spawner) start(children *reaper.Reaper, c *command) (process *reaper.Process, err error) {
	done := make(chan struct{})
	s.jobs <- func() {
		defer close(done)
		process, err = c.start(children)
		// Leaves no mount busy.
		if err := unix.Chdir("/"); err != nil {
			panic("chdir /: " + err.Error())
		}
	}
	<-done
	return process, err
}

func (c *command) start(children *reaper.Reaper) (*reaper.Process, error) {
	if c.createDir {
		if err := os.MkdirAll(c.directory, 0o755); err != nil {
			return nil, fail(pb.ExecFailed_REASON_BAD_CWD, "create cwd %q: %v", c.directory, underlying(err))
		}
	}
	if err := unix.Chdir(c.directory); err != nil {
		return nil, fail(pb.ExecFailed_REASON_BAD_CWD, "chdir to cwd %q: %v", c.directory, err)
	}
	attr := &syscall.ProcAttr{
		Env:   c.env,
		Files: []uintptr{uintptr(c.files[0]), uintptr(c.files[1]), uintptr(c.files[2])},
		Sys:   &c.attr,
	}
	var process *reaper.Process
	err := search(c.args[0], lookupEnv(c.env, "PATH"), func(file string) (err error) {
		process, err = children.Start(func() (int, error) { return syscall.ForkExec(file, c.args, attr) })
		return err
	})
	return process, err
}

func underlying(err error) error {
	if pathError, ok := err.(*os.PathError); ok {
		return pathError.Err
	}
	return err
}

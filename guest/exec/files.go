// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// files are the agent's ends of a process's stdio, nil where there is none.
type files struct {
	stdin, stdout, stderr *os.File
	terminal              *os.File // the master: also stdin and stdout, if those were asked for
}

func (f *files) close() {
	for _, file := range []*os.File{f.stdin, f.stdout, f.stderr, f.terminal} {
		if file != nil {
			file.Close() // closing the master again is harmless
		}
	}
}

func (f *files) resize(size *pb.Tty) error {
	if f.terminal == nil || size == nil {
		return nil
	}
	raw, err := f.terminal.SyscallConn()
	if err != nil {
		return nil // closed: the process has ended
	}
	var sizeErr error
	if raw.Control(func(fd uintptr) { sizeErr = setSize(int(fd), size) }) != nil {
		return nil // closed meanwhile
	}
	return sizeErr
}

// childFiles are the process's ends.
type childFiles struct {
	fds   [3]int
	owned []int
}

func (c *childFiles) close() {
	for _, fd := range c.owned {
		unix.Close(fd)
	}
}

// open makes the stdio a request asks for. The process's ends belong to uid, so that it may open /dev/stdout.
func (f *files) open(request *pb.Exec, uid int) (child *childFiles, err error) {
	child = &childFiles{}
	defer func() {
		if err != nil {
			child.close()
			f.close()
		}
	}()
	if request.Tty != nil {
		master, slave, err := openTerminal(request.Tty, uid)
		if err != nil {
			return nil, err
		}
		child.own(slave)
		child.fds = [3]int{slave, slave, slave}
		f.terminal = master
		if request.Stdin {
			f.stdin = master
		}
		if request.Stdout {
			f.stdout = master
		}
		return child, nil
	}

	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	child.own(null)
	child.fds = [3]int{null, null, null}
	for _, want := range []struct {
		wanted bool
		fd     int
		ours   **os.File
	}{
		{request.Stdin, 0, &f.stdin},
		{request.Stdout, 1, &f.stdout},
		{request.Stderr, 2, &f.stderr},
	} {
		if !want.wanted {
			continue
		}
		if *want.ours, err = child.pipe(want.fd, uid); err != nil {
			return nil, err
		}
	}
	return child, nil
}

func (c *childFiles) own(fd int) { c.owned = append(c.owned, fd) }

// pipeSize is four times the default: bulk data costs a third less time with it.
const pipeSize = 256 << 10

// pipe makes fd of the process one end of a pipe and returns the other. Only our end is non-blocking.
func (c *childFiles) pipe(fd, uid int) (*os.File, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeSize) // a user with many pipes gets small ones
	ours, theirs := ends[0], ends[1]
	if fd == 0 {
		ours, theirs = theirs, ours
	}
	c.own(theirs)
	c.fds[fd] = theirs
	if err := unix.SetNonblock(ours, true); err != nil {
		unix.Close(ours)
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Fchown(theirs, uid, -1); err != nil {
		unix.Close(ours)
		return nil, fmt.Errorf("chown pipe: %w", err)
	}
	return os.NewFile(uintptr(ours), "stdio"), nil
}

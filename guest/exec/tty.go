// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// openTerminal makes a pseudo-terminal. The other end is opened through the master, not by name: a name would be
// the image's to redirect.
func openTerminal(size *pb.Tty, uid int) (master *os.File, slave int, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, -1, fmt.Errorf("unlock terminal: %w", err)
	}
	slave, err = ioctlRet(fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return nil, -1, fmt.Errorf("open terminal: %w", err)
	}
	if err := unix.Fchown(slave, uid, -1); err != nil {
		unix.Close(slave)
		return nil, -1, fmt.Errorf("chown terminal: %w", err)
	}
	if err := setSize(fd, size); err != nil {
		unix.Close(slave)
		return nil, -1, err
	}
	return master, slave, nil
}

func setSize(fd int, size *pb.Tty) error {
	if size.Rows == 0 && size.Columns == 0 {
		return nil
	}
	err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: clamp(size.Rows), Col: clamp(size.Columns)})
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

func clamp(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }

func ioctlRet(fd int, request, argument uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}

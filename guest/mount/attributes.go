// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of the kernel, include/uapi/linux/limits.h.
const (
	xattrListMax  = 65536
	xattrValueMax = 65536
)

// copyAttributes gives one directory the owner, mode, extended attributes and times of another: the root of an
// overlay has those of its upper directory, and they have to be the image's.
func copyAttributes(from, to string) error {
	var stat unix.Stat_t
	if err := unix.Stat(from, &stat); err != nil {
		return fmt.Errorf("stat %s: %w", from, err)
	}
	if err := unix.Chown(to, int(stat.Uid), int(stat.Gid)); err != nil {
		return fmt.Errorf("chown %s: %w", to, err)
	}
	if err := unix.Chmod(to, stat.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod %s: %w", to, err)
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{stat.Atim, stat.Mtim}, 0); err != nil {
		return fmt.Errorf("utimes %s: %w", to, err)
	}
	return nil
}

// copyXattrs leaves out the overlay's own, and those that the upper file system cannot keep (user.* on tmpfs).
func copyXattrs(from, to string) error {
	size, err := unix.Listxattr(from, nil)
	if err != nil || size == 0 {
		return err
	}
	names := make([]byte, min(size, xattrListMax))
	if size, err = unix.Listxattr(from, names); err != nil {
		return fmt.Errorf("listxattr %s: %w", from, err)
	}
	value := make([]byte, xattrValueMax)
	for _, name := range strings.FieldsFunc(string(names[:size]), func(r rune) bool { return r == 0 }) {
		if strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		length, err := unix.Getxattr(from, name, value)
		if err != nil {
			return fmt.Errorf("getxattr %s %s: %w", from, name, err)
		}
		if err := unix.Setxattr(to, name, value[:length], 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("setxattr %s %s: %w", to, name, err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Where the parts of the root are mounted in the initramfs. Once the root was switched no path leads there.
const (
	lowerDir = "/lower"
	upperDir = "/upper"
	newRoot  = "/root"
)

// Upper is the writable half of the root.
type Upper struct {
	Device string // an ext4 file system; "" means tmpfs
	Size   uint64 // of the tmpfs, in bytes; 0 is the kernel's default
}

// Root is the assembled root.
type Root struct {
	upper *os.File // the root of the upper file system
	ext4  bool
}

// Assemble mounts the overlay of upper over the EROFS on lowerDevice, ready to be switched to.
func Assemble(lowerDevice string, upper Upper) (*Root, error) {
	for _, dir := range []string{lowerDir, upperDir, newRoot} {
		if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
			return nil, fmt.Errorf("mkdir %s: %w", dir, err)
		}
	}
	if err := unix.Mount(lowerDevice, lowerDir, "erofs", unix.MS_RDONLY, ""); err != nil {
		return nil, fmt.Errorf("mount erofs %s: %w", lowerDevice, err)
	}
	if err := upper.mount(); err != nil {
		return nil, err
	}
	for _, dir := range []string{upperDir + "/upper", upperDir + "/work"} {
		if err := unix.Mkdir(dir, 0o755); err != nil && err != unix.EEXIST {
			return nil, fmt.Errorf("mkdir %s: %w", dir, err)
		}
	}
	if err := copyAttributes(lowerDir, upperDir+"/upper"); err != nil {
		return nil, err
	}
	if err := unix.Mount("overlay", newRoot, "overlay", 0, overlayData); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	file, err := os.Open(upperDir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", upperDir, err)
	}
	return &Root{upper: file, ext4: upper.Device != ""}, nil
}

// Why these: metacopy makes a chown or chmod of an image's file copy its inode, not its data (`chown -R` in an
// entrypoint); it needs redirect_dir, which lets directories of the image be renamed. xino keeps st_dev and st_ino
// what they were when a file is copied up. Not index: hard links may then break on the first write, as in Docker,
// but the upper can be moved and copied. Not volatile: after a crash such an upper cannot be mounted again.
const overlayData = "lowerdir=" + lowerDir + ",upperdir=" + upperDir + "/upper,workdir=" + upperDir + "/work" +
	",metacopy=on,redirect_dir=on,index=off,xino=auto"

func (u Upper) mount() error {
	if u.Device == "" {
		data := "mode=0755"
		if u.Size > 0 {
			data += fmt.Sprintf(",size=%d", u.Size)
		}
		if err := unix.Mount("tmpfs", upperDir, "tmpfs", 0, data); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		return nil
	}
	// noinit_itable: the disk is a sparse file, what was never written reads as zeros.
	data := "noinit_itable"
	if canDiscard(u.Device) {
		data += ",discard"
	}
	if err := unix.Mount(u.Device, upperDir, "ext4", unix.MS_NOATIME, data); err != nil {
		return fmt.Errorf("mount ext4 %s: %w", u.Device, err)
	}
	return nil
}

func canDiscard(device string) bool {
	name := device[strings.LastIndexByte(device, '/')+1:]
	limit, err := os.ReadFile("/sys/class/block/" + name + "/queue/discard_max_bytes")
	return err == nil && string(limit) != "0\n"
}

// Switch makes the new root the root of everything, with the early mounts in it. The initramfs holds nothing but
// the running agent, so there is nothing to free.
func (r *Root) Switch() error {
	for _, m := range Early {
		target := newRoot + m.Target
		if err := directory(target); err != nil {
			return err
		}
		if err := unix.Mount(m.Target, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.Target, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	return unix.Chdir("/")
}

// directory makes path, directly in the new root, a directory and not a link that leads elsewhere.
func directory(path string) error {
	err := unix.Mkdir(path, 0o755)
	if err == unix.EEXIST {
		var stat unix.Stat_t
		if err = unix.Lstat(path, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = unix.Unlink(path); err == nil {
				err = unix.Mkdir(path, 0o755)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("mkdir %s: %w", path, err)
	}
	return nil
}

// ReadOnly makes the root, but nothing mounted below it, read-only.
func (r *Root) ReadOnly() error {
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount / read-only: %w", err)
	}
	return nil
}

// Grow prepares to make the ext4 upper as large as its device. The function it returns does that, while the file
// system is in use; it is nil if there is nothing to do.
func (r *Root) Grow(device string) (func() error, error) {
	disk, err := os.Open(device)
	if err != nil {
		return nil, fmt.Errorf("grow: %w", err)
	}
	defer disk.Close()
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("grow %s: %w", device, err)
	}
	blockSize, blocks, err := readExt4Size(disk)
	if err != nil {
		return nil, fmt.Errorf("grow %s: %w", device, err)
	}
	wanted := uint64(size) / blockSize
	if wanted <= blocks {
		return nil, nil
	}
	return func() error {
		if err := resizeExt4(int(r.upper.Fd()), wanted); err != nil {
			return fmt.Errorf("grow %s from %d to %d blocks: %w", device, blocks, wanted, err)
		}
		return nil
	}, nil
}

// Close writes everything out and leaves the disk as clean as an unmount would: the root itself cannot be
// unmounted while the agent runs from it, but no write can follow.
func (r *Root) Close() error {
	unix.Sync()
	if !r.ext4 {
		return nil // it is gone in a moment
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount / read-only: %w", err)
	}
	// No path leads to the upper any more, but its file descriptor does.
	path := fmt.Sprintf("/proc/self/fd/%d", r.upper.Fd())
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount the writable disk read-only: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64).
const ext4ResizeFS = 0x40086610

func resizeExt4(fd int, blocks uint64) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ext4ResizeFS, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		return errno
	}
	return nil
}

// The fields of the superblock that are needed: Documentation/filesystems/ext4/super.rst.
const (
	superOffset      = 1024
	superSize        = 1024
	superBlocksLow   = 0x04
	superLogBlock    = 0x18 // block size is 1024 shifted by this
	superMagic       = 0x38
	superIncompat    = 0x60
	superBlocksHigh  = 0x150
	ext4Magic        = 0xef53
	incompat64Bit    = 0x80
	largestLogOfSize = 6
)

// readExt4Size reads the size of the file system on a device.
func readExt4Size(device io.ReaderAt) (blockSize, blocks uint64, err error) {
	super := make([]byte, superSize)
	if _, err := device.ReadAt(super, superOffset); err != nil {
		return 0, 0, fmt.Errorf("read superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(super[superMagic:]) != ext4Magic {
		return 0, 0, errors.New("no ext4 superblock")
	}
	shift := binary.LittleEndian.Uint32(super[superLogBlock:])
	if shift > largestLogOfSize {
		return 0, 0, fmt.Errorf("bad block size in superblock: 1024 << %d", shift)
	}
	blocks = uint64(binary.LittleEndian.Uint32(super[superBlocksLow:]))
	if binary.LittleEndian.Uint32(super[superIncompat:])&incompat64Bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[superBlocksHigh:])) << 32
	}
	return 1024 << shift, blocks, nil
}

// SPDX-License-Identifier: Apache-2.0

// On-disk constants of EROFS, from the kernel's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.

/** Blocks of 512 bytes, so that every file in a tar starts on a block boundary. */
export const BLOCK_BITS = 9;
export const BLOCK = 1 << BLOCK_BITS;

export const SUPERBLOCK_OFFSET = 1024;
export const SUPERBLOCK_SIZE = 128;
export const SUPERBLOCK_MAGIC = 0xe0f5e1e2;
export const DEVICE_SLOT_SIZE = 128;

export const COMPAT_SUPERBLOCK_CHECKSUM = 0x1;
export const COMPAT_MTIME = 0x2;
export const INCOMPAT_CHUNKED_FILE = 0x4;
export const INCOMPAT_DEVICE_TABLE = 0x8;

/** Inodes are numbered by their place, in units of this many bytes. */
export const NID_UNIT = 32;
export const INODE_SIZE = 64;
/** `i_format` bit 0: the extended, 64-byte form of an inode. */
export const FORMAT_EXTENDED = 1;

/** `i_format` bits 1 to 3: where the contents are. */
export const LAYOUT_PLAIN = 0;
export const LAYOUT_INLINE = 2;
export const LAYOUT_CHUNKED = 4;

export const CHUNK_BITS_MAX = 31 + BLOCK_BITS;
export const CHUNK_ADDRESS_SIZE = 4;

export const DIRENT_SIZE = 12;

export const FILE_TYPE = {
  file: 1,
  directory: 2,
  "character-device": 3,
  "block-device": 4,
  fifo: 5,
  symlink: 7,
} as const;

/** The type bits of `i_mode`, as in stat(2). */
export const MODE_TYPE = {
  file: 0o100000,
  directory: 0o040000,
  "character-device": 0o020000,
  "block-device": 0o060000,
  fifo: 0o010000,
  symlink: 0o120000,
} as const;

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

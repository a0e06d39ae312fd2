// SPDX-License-Identifier: Apache-2.0
import { crc32c } from "./crc32c.ts";
import {
  alignUp,
  BLOCK,
  BLOCK_BITS,
  COMPAT_MTIME,
  COMPAT_SUPERBLOCK_CHECKSUM,
  DEVICE_SLOT_SIZE,
  INCOMPAT_CHUNKED_FILE,
  INCOMPAT_DEVICE_TABLE,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  SUPERBLOCK_SIZE,
} from "./format.ts";

/** A layer's tar as the kernel sees it: a device that holds nothing but data blocks. */
export interface Device {
  /** First block in the unified address space. */
  readonly firstBlock: number;
  readonly blocks: number;
}

export interface Superblock {
  readonly rootNid: number;
  readonly inodes: number;
  /** Blocks of the image itself, without its devices. */
  readonly blocks: number;
  readonly devices: readonly Device[];
  readonly hasChunks: boolean;
}

const DEVICE_TABLE_OFFSET = SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE;

/** Offset of the first block after the superblock and its device table. */
export function superblockEnd(deviceCount: number): number {
  return alignUp(DEVICE_TABLE_OFFSET + deviceCount * DEVICE_SLOT_SIZE, BLOCK);
}

/** The image's first bytes: 1024 unused ones, the superblock, the device table. */
export function encodeSuperblock({ rootNid, inodes, blocks, devices, hasChunks }: Superblock): Buffer {
  const bytes = Buffer.alloc(superblockEnd(devices.length));
  const superblock = bytes.subarray(SUPERBLOCK_OFFSET);
  superblock.writeUInt32LE(SUPERBLOCK_MAGIC, 0);
  superblock.writeUInt32LE(COMPAT_SUPERBLOCK_CHECKSUM | COMPAT_MTIME, 8);
  superblock.writeUInt8(BLOCK_BITS, 12);
  superblock.writeUInt16LE(rootNid, 14);
  superblock.writeBigUInt64LE(BigInt(inodes), 16);
  superblock.writeUInt32LE(blocks, 36);
  // Metadata starts at block 0 (offset 40); no shared xattrs (44), UUID (48) or volume name (64).
  const incompatible =
    (hasChunks ? INCOMPAT_CHUNKED_FILE : 0) | (devices.length > 0 ? INCOMPAT_DEVICE_TABLE : 0);
  superblock.writeUInt32LE(incompatible, 80);
  superblock.writeUInt16LE(devices.length, 86);
  superblock.writeUInt16LE(DEVICE_TABLE_OFFSET / DEVICE_SLOT_SIZE, 88);

  for (const [index, device] of devices.entries()) {
    const slot = bytes.subarray(DEVICE_TABLE_OFFSET + index * DEVICE_SLOT_SIZE);
    slot.writeUInt32LE(device.blocks, 64);
    slot.writeUInt32LE(device.firstBlock, 68);
  }
  // The checksum covers the rest of the superblock's block, with its own field as zero.
  superblock.writeUInt32LE(crc32c(superblock.subarray(0, BLOCK)), 4);
  return bytes;
}

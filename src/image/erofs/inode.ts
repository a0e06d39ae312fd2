// SPDX-License-Identifier: Apache-2.0
import { direntsSize } from "./dirents.ts";
import {
  BLOCK,
  BLOCK_BITS,
  FORMAT_EXTENDED,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_PLAIN,
  MODE_TYPE,
} from "./format.ts";
import type { Placement } from "./plan.ts";
import { xattrCount } from "./xattrs.ts";

export interface InodeAddresses {
  readonly firstDataBlock: number;
  /** First block of each layer's tar in the unified address space. */
  readonly layerBlocks: readonly number[];
}

/** Writes the 64 bytes of an inode to the start of `out`, which must hold zeros. */
export function writeInode(
  placement: Placement,
  number: number,
  addresses: InodeAddresses,
  out: Buffer,
): void {
  const { inode, contents, xattrs, links } = placement;
  const { mode, uid, gid, mtimeSec, mtimeNsec } = inode.metadata;
  const inline = (contents.kind === "directory" || contents.kind === "symlink") && contents.inline;
  const layout = contents.kind === "chunks" ? LAYOUT_CHUNKED : inline ? LAYOUT_INLINE : LAYOUT_PLAIN;

  out.writeUInt16LE(FORMAT_EXTENDED | (layout << 1), 0);
  out.writeUInt16LE(xattrCount(xattrs), 2);
  out.writeUInt16LE(MODE_TYPE[inode.kind] | mode, 4);
  write64(out, sizeOf(placement), 8);
  out.writeUInt32LE(whereOf(placement, addresses), 16);
  out.writeUInt32LE(number, 20);
  out.writeUInt32LE(uid, 24);
  out.writeUInt32LE(gid, 28);
  write64(out, mtimeSec, 32);
  out.writeUInt32LE(mtimeNsec, 40);
  out.writeUInt32LE(links, 44);
}

/** Two's complement, without the cost of a BigInt. */
function write64(out: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 2 ** 32);
  out.writeUInt32LE(value - high * 2 ** 32, at);
  out.writeInt32LE(high, at + 4);
}

function sizeOf({ contents }: Placement): number {
  switch (contents.kind) {
    case "directory":
      return direntsSize(contents.dirents);
    case "symlink":
      return contents.target.length;
    case "layer":
    case "chunks":
      return contents.file.size;
    case "none":
      return 0;
  }
}

/** `i_u`: block address, chunk format or device number. */
function whereOf({ inode, contents }: Placement, { firstDataBlock, layerBlocks }: InodeAddresses): number {
  switch (contents.kind) {
    case "chunks":
      return contents.plan.bits - BLOCK_BITS;
    case "directory":
    case "symlink":
      return firstDataBlock + contents.dataBlock;
    case "layer":
      return (layerBlocks[contents.file.layer] ?? 0) + contents.file.dataOffset / BLOCK;
    case "none":
      return "devMajor" in inode ? encodeDevice(inode.devMajor, inode.devMinor) : 0;
  }
}

/** The kernel's `new_encode_dev`: 12 bits of major number inside 20 bits of minor. */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

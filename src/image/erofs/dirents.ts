// SPDX-License-Identifier: Apache-2.0
import type { ByteString } from "../tar/entry.ts";
import { BLOCK, DIRENT_SIZE } from "./format.ts";

/** How the names of a directory are spread over its blocks. */
export interface DirentLayout {
  /** All names, `.` and `..` among them, sorted by their bytes: the kernel searches them by halves. */
  readonly names: readonly ByteString[];
  /** Index of the first name of each block. */
  readonly firsts: readonly number[];
  /** Bytes used in the last block. */
  readonly tailSize: number;
}

export function layoutDirents(children: Iterable<ByteString>): DirentLayout {
  const names = [".", "..", ...children].sort();
  const firsts = [0];
  let used = 0;
  for (const [index, name] of names.entries()) {
    const size = DIRENT_SIZE + name.length;
    if (used + size > BLOCK) {
      firsts.push(index);
      used = 0;
    }
    used += size;
  }
  return { names, firsts, tailSize: used };
}

/** `i_size` of the directory. */
export function direntsSize({ firsts, tailSize }: DirentLayout): number {
  return (firsts.length - 1) * BLOCK + tailSize;
}

export interface DirentTarget {
  readonly nid: number;
  readonly fileType: number;
}

/** Writes one block of a directory to the start of `out`, which must hold zeros. */
export function writeDirentBlock(
  { names, firsts }: DirentLayout,
  block: number,
  targetOf: (name: ByteString) => DirentTarget,
  out: Buffer,
): void {
  const first = firsts[block] ?? 0;
  const end = firsts[block + 1] ?? names.length;
  let nameOffset = (end - first) * DIRENT_SIZE;
  for (let index = first; index < end; index += 1) {
    const name = names[index] ?? "";
    const { nid, fileType } = targetOf(name);
    const at = (index - first) * DIRENT_SIZE;
    out.writeUInt32LE(nid % 2 ** 32, at);
    out.writeUInt32LE(Math.floor(nid / 2 ** 32), at + 4);
    out.writeUInt16LE(nameOffset, at + 8);
    out.writeUInt8(fileType, at + 10);
    nameOffset += out.write(name, nameOffset, "latin1");
  }
}

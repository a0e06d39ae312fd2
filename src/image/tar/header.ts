// SPDX-License-Identifier: Apache-2.0
import { corrupt } from "../image-errors.ts";
import type { ByteString } from "./entry.ts";
import { parseNumber, parseOctal } from "./numeric.ts";

export const BLOCK = 512;

/** The fields of one 512-byte header block, before any extension header is applied. */
export interface RawHeader {
  readonly typeflag: number;
  readonly path: ByteString;
  readonly linkPath: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly gnu: boolean;
}

const CHARACTER_DEVICE = 0x33; // "3"
const BLOCK_DEVICE = 0x34; // "4"

/**
 * Reads a header block of any format: v7, ustar (POSIX.1-1988), star, GNU, PAX.
 *
 * The block must not be all zeros (see `isZeroBlock`).
 */
export function parseHeader(block: Buffer): RawHeader {
  verifyChecksum(block);
  const gnu = hasBytes(block, 257, "ustar  \0");
  const ustar = !gnu && hasBytes(block, 257, "ustar\0");
  const star = ustar && hasBytes(block, 508, "tar\0");
  const typeflag = block[156] ?? 0;
  const device = typeflag === CHARACTER_DEVICE || typeflag === BLOCK_DEVICE;

  const name = cString(block, 0, 100);
  // GNU and star keep times where ustar has the rest of its prefix.
  const prefix = ustar ? cString(block, 345, star ? 131 : 155) : "";
  return {
    typeflag,
    path: prefix === "" ? name : `${prefix}/${name}`,
    linkPath: cString(block, 157, 100),
    mode: parseNumber(block, 100, 8, "mode"),
    uid: parseNumber(block, 108, 8, "uid"),
    gid: parseNumber(block, 116, 8, "gid"),
    size: parseNumber(block, 124, 12, "size"),
    mtimeSec: parseNumber(block, 136, 12, "mtime"),
    devMajor: device ? parseNumber(block, 329, 8, "device major") : 0,
    devMinor: device ? parseNumber(block, 337, 8, "device minor") : 0,
    gnu,
  };
}

/** Whether a block is one of the two that end an archive. */
export function isZeroBlock(block: Buffer): boolean {
  return firstNonZero(block, 0) === block.length;
}

/** Index of the first byte from `start` on that is not zero, or the length of `bytes`. */
export function firstNonZero(bytes: Uint8Array, start: number): number {
  let index = start;
  while (index < bytes.length && bytes[index] === 0) index += 1;
  return index;
}

/** Bytes from `start` up to the first NUL, or all `length` of them. */
export function cString(block: Buffer, start: number, length: number): ByteString {
  let end = start;
  const limit = start + length;
  while (end < limit && block[end] !== 0) end += 1;
  return block.toString("latin1", start, end);
}

function verifyChecksum(block: Buffer): void {
  const expected = parseOctal(block, 148, 8, "checksum");
  let unsigned = 0;
  let highBytes = 0;
  for (let index = 0; index < BLOCK; index += 1) {
    const byte = block[index] ?? 0;
    unsigned += byte;
    if (byte > 127) highBytes += 1;
  }
  // The checksum field itself counts as eight spaces.
  for (let index = 148; index < 156; index += 1) {
    const byte = block[index] ?? 0;
    unsigned += 0x20 - byte;
    if (byte > 127) highBytes -= 1;
  }
  // Historic tars summed signed chars: 256 less for each byte with the top bit set.
  const signed = unsigned - highBytes * 256;
  if (expected !== unsigned && expected !== signed) throw corrupt("header checksum does not match");
}

function hasBytes(block: Buffer, start: number, text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    if (block[start + index] !== text.charCodeAt(index)) return false;
  }
  return true;
}

// SPDX-License-Identifier: Apache-2.0
import { unsupported } from "../image-errors.ts";

export type Compression = "none" | "gzip" | "zstd";

/** How many first bytes `sniffCompression` wants to see, if there are that many. */
export const SNIFF_BYTES = 10;

/** Starts of formats that are not layers, though their media type may say so. */
const REFUSED: readonly (readonly [name: string, magic: Buffer])[] = [
  ["bzip2", Buffer.from("BZh91AY&SY", "latin1")],
  ["xz", Buffer.from("fd377a585a00", "hex")],
  ["lz4", Buffer.from("04224d18", "hex")],
];

/**
 * What a blob is compressed with, by its first bytes: media types lie. A blob that is none of these is taken
 * for a tar, and the tar scanner has the last word.
 */
export function sniffCompression(start: Buffer): Compression {
  if (start.length >= 2 && start[0] === 0x1f && start[1] === 0x8b) return "gzip";
  if (start.length >= 4) {
    const magic = start.readUInt32LE(0);
    if (magic === ZSTD_MAGIC || isSkippableMagic(magic)) return "zstd";
  }
  const refused = REFUSED.find(([, magic]) => start.subarray(0, magic.length).equals(magic));
  if (refused)
    throw unsupported(`compressed with ${refused[0]}`, "Rebuild the image with gzip or zstd layers.");
  return "none";
}

/** First four bytes of a zstd frame. Source: RFC 8878 §3.1.1. */
export const ZSTD_MAGIC = 0xfd2fb528;

/** Whether a frame holds data for other programs, which decoders pass over. Source: RFC 8878 §3.1.2. */
export function isSkippableMagic(magic: number): boolean {
  return (magic & 0xfffffff0) >>> 0 === 0x184d2a50;
}

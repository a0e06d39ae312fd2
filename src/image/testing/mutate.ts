// SPDX-License-Identifier: Apache-2.0
import { writeChecksum } from "./tar-writer.ts";

/** A random integer below a bound. */
export type RandomNumbers = (below: number) => number;

/** xorshift32: the same seed finds the same fault. */
export function randomNumbers(seed: number): RandomNumbers {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Offsets of what a header says: name, mode, owner, size, time, type, link, sparse map. */
const FIELDS = [0, 100, 108, 124, 125, 135, 136, 156, 157, 386, 482, 504];

/** Changes that get past the checksum: bytes of headers, whole blocks, lengths. */
export function mutate(original: Buffer, random: RandomNumbers): Buffer {
  let archive = Buffer.from(original);
  const blocks = () => Math.max(1, archive.length >> 9);
  for (let changes = 1 + random(4); changes > 0; changes -= 1) {
    if (archive.length < 512) break;
    const at = random(blocks()) << 9;
    switch (random(5)) {
      case 0:
        archive[at + random(512)] = random(256);
        break;
      case 1: {
        // A header with one changed byte, but the right checksum.
        const block = archive.subarray(at, at + 512);
        if (block.toString("latin1", 257, 262) !== "ustar") break;
        block[(FIELDS[random(FIELDS.length)] ?? 0) + random(4)] = random(256);
        writeChecksum(block);
        break;
      }
      case 2:
        archive = Buffer.concat([archive.subarray(0, at), archive.subarray(at + 512)]);
        break;
      case 3:
        archive.copy(archive, random(blocks()) << 9, at, at + 512);
        break;
      case 4:
        if (random(8) === 0) archive = archive.subarray(0, random(archive.length));
        break;
    }
  }
  return archive;
}

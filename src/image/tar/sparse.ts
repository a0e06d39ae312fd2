// SPDX-License-Identifier: Apache-2.0
import { corrupt, overLimit, unsupported } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import type { SparseSegment } from "./entry.ts";
import { BLOCK } from "./header.ts";
import { parseDecimal, parseNumber } from "./numeric.ts";
import type { PaxHeader } from "./pax.ts";

/**
 * Where the PAX header of a file says its sparse map is (GNU tar manual, "Storing Sparse Files").
 *
 * @returns offset, length, offset, length, … of formats 0.0 and 0.1; "map-in-data" for 1.0, whose map comes
 *   before the contents; undefined for a file that is not sparse
 */
export function paxSparse(
  pax: PaxHeader,
  limits: ImageLimits,
): readonly number[] | "map-in-data" | undefined {
  const { records, sparsePairs } = pax;
  const major = records.get("GNU.sparse.major");
  const minor = records.get("GNU.sparse.minor");
  const map = records.get("GNU.sparse.map");
  if (major === "1" && minor === "0") return "map-in-data";
  if ((major ?? "0") !== "0" || !["0", "1"].includes(minor ?? "0"))
    throw unsupported("unknown sparse format");
  const declared = records.get("GNU.sparse.numblocks");
  if (map === undefined && declared === undefined && sparsePairs.length === 0) return undefined;
  const pairs = map ? parseSparseMap(map, limits) : sparsePairs;
  if (declared !== undefined && parseDecimal(declared, "GNU.sparse.numblocks") * 2 !== pairs.length) {
    throw corrupt("sparse map has a different length than declared");
  }
  return pairs;
}

function parseSparseMap(map: string, limits: ImageLimits): number[] {
  const texts = map.split(",", 2 * limits.maxSparseSegments + 1);
  if (texts.length > 2 * limits.maxSparseSegments) throw overLimit("too many sparse segments");
  return texts.map((text) => parseDecimal(text, "GNU.sparse.map"));
}

/** Reads the map of sparse format 1.0 as it streams by: newline-ended decimals in whole blocks, the count first. */
export class SparseMapReader {
  readonly pairs: number[] = [];
  readonly #limits: ImageLimits;
  #expected = -1;
  #value = 0;
  #digits = 0;

  constructor(limits: ImageLimits) {
    this.#limits = limits;
  }

  /** Takes the next block; true once the map is complete, the file's data starting with the block after. */
  push(block: Buffer): boolean {
    for (let index = 0; index < BLOCK; index += 1) {
      const byte = block[index] ?? 0;
      if (byte === 0x0a) {
        if (this.#endNumber()) return true;
      } else if (byte >= 0x30 && byte <= 0x39 && this.#digits < 16) {
        this.#value = this.#value * 10 + (byte - 0x30);
        this.#digits += 1;
      } else {
        throw corrupt("malformed sparse map");
      }
    }
    return false;
  }

  #endNumber(): boolean {
    if (this.#digits === 0 || !Number.isSafeInteger(this.#value)) throw corrupt("malformed sparse map");
    const value = this.#value;
    this.#value = 0;
    this.#digits = 0;
    if (this.#expected >= 0) {
      this.pairs.push(value);
    } else {
      if (value > this.#limits.maxSparseSegments) throw overLimit(`${value} sparse segments`);
      this.#expected = 2 * value;
    }
    return this.pairs.length === this.#expected;
  }
}

/** Reads the map of an old GNU sparse header ("S"): four pairs in the header, 21 in each extension block. */
export class OldSparseReader {
  readonly pairs: number[] = [];
  readonly realSize: number;
  readonly #limits: ImageLimits;
  #ended = false;

  constructor(header: Buffer, limits: ImageLimits) {
    this.#limits = limits;
    this.#take(header, 386, 4);
    this.realSize = parseNumber(header, 483, 12, "real size");
    this.extended = header[482] !== 0;
  }

  /** Whether one more extension block follows. */
  extended: boolean;

  push(block: Buffer): void {
    this.#take(block, 0, 21);
    this.extended = block[504] !== 0;
  }

  #take(block: Buffer, start: number, count: number): void {
    for (let at = start; at < start + count * 24; at += 24) {
      // The first unused slot ends the map.
      if (block[at] === 0) this.#ended = true;
      if (this.#ended) return;
      if (this.pairs.length >= 2 * this.#limits.maxSparseSegments) {
        throw overLimit("too many sparse segments");
      }
      this.pairs.push(
        parseNumber(block, at, 12, "sparse offset"),
        parseNumber(block, at + 12, 12, "sparse length"),
      );
    }
  }
}

/**
 * Checks a sparse map and turns it into segments.
 *
 * @param pairs offset, length, offset, length, …
 * @param size bytes of the file as a reader sees it
 * @param dataOffset where the stored bytes start in the tar
 * @param storedBytes how many there are; the map must account for all of them
 */
export function sparseSegments(
  pairs: readonly number[],
  size: number,
  dataOffset: number,
  storedBytes: number,
): readonly SparseSegment[] {
  if (pairs.length % 2 !== 0) throw corrupt("malformed sparse map");
  const segments: SparseSegment[] = [];
  let end = 0;
  let stored = 0;
  for (let index = 0; index < pairs.length; index += 2) {
    const offset = pairs[index] ?? 0;
    const length = pairs[index + 1] ?? 0;
    if (offset < end || length < 0 || offset + length > size) {
      throw corrupt("sparse segments overlap or lie outside the file");
    }
    if (length > 0) segments.push({ offset, dataOffset: dataOffset + stored, length });
    end = offset + length;
    stored += length;
  }
  if (stored !== storedBytes) throw corrupt("sparse map does not match the stored data");
  return segments;
}

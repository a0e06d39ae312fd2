// SPDX-License-Identifier: Apache-2.0
import { corrupt } from "../image-errors.ts";
import { isSkippableMagic, ZSTD_MAGIC } from "./compression.ts";

type Part = "magic" | "skippable-size" | "descriptor" | "frame-header" | "block-header" | "checksum";

const MAGIC_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;

/** Bytes of the dictionary id and of the content size, by their two-bit flags. */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/**
 * Finds where the frames of a zstd stream end, without decompressing it.
 *
 * Node's decoder drops whatever follows a frame in the same write, and tools write layers of thousands of frames
 * (pzstd, zstd:chunked): cut at frame ends, it takes them all. Frames that decoders skip are left out.
 *
 * Source: RFC 8878 §3.1.
 */
export class ZstdFrames {
  #part: Part = "magic";
  /** The part being read: collected, since it may be spread over chunks. */
  readonly #bytes = Buffer.alloc(16);
  #have = 0;
  #want = MAGIC_BYTES;
  /** Bytes to pass over before the part. */
  #contents = 0;
  #inFrame = false;
  #hasChecksum = false;

  /** Whether the stream may end here. */
  get complete(): boolean {
    return this.#part === "magic" && this.#have === 0 && this.#contents === 0;
  }

  /** The pieces of `chunk` to decompress, each in one write; none reaches past the end of a frame. */
  *split(chunk: Buffer): Generator<Buffer, void, undefined> {
    let from = 0;
    let at = 0;
    while (at < chunk.length) {
      const outside = !this.#inFrame;
      const taken = this.#advance(chunk, at);
      at += taken;
      if (outside && this.#inFrame) {
        // The magic number was held back until it was known to start a frame of data.
        from = at - MAGIC_BYTES;
        if (taken < MAGIC_BYTES) {
          yield Buffer.from(this.#bytes.subarray(0, MAGIC_BYTES));
          from = at;
        }
      } else if (this.#inFrame && this.complete) {
        yield chunk.subarray(from, at);
        this.#inFrame = false;
      }
    }
    if (this.#inFrame && from < at) yield chunk.subarray(from, at);
  }

  /** Takes at least one byte of `chunk` from `at` on; returns how many. */
  #advance(chunk: Buffer, at: number): number {
    if (this.#contents > 0) {
      const taken = Math.min(this.#contents, chunk.length - at);
      this.#contents -= taken;
      return taken;
    }
    const taken = chunk.copy(this.#bytes, this.#have, at, at + this.#want - this.#have);
    this.#have += taken;
    if (this.#have === this.#want) this.#finishPart();
    return taken;
  }

  #finishPart(): void {
    const bytes = this.#bytes;
    switch (this.#part) {
      case "magic":
        this.#startFrame(bytes.readUInt32LE(0));
        break;
      case "skippable-size":
        this.#contents = bytes.readUInt32LE(0);
        this.#expect("magic", MAGIC_BYTES);
        break;
      case "descriptor":
        this.#readDescriptor(bytes.readUInt8(0));
        break;
      case "frame-header":
        this.#expect("block-header", BLOCK_HEADER_BYTES);
        break;
      case "block-header":
        this.#readBlockHeader(bytes.readUIntLE(0, BLOCK_HEADER_BYTES));
        break;
      case "checksum":
        this.#expect("magic", MAGIC_BYTES);
    }
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part;
    this.#want = bytes;
    this.#have = 0;
  }

  #startFrame(magic: number): void {
    if (isSkippableMagic(magic)) {
      this.#expect("skippable-size", 4);
      return;
    }
    if (magic !== ZSTD_MAGIC) throw corrupt("zstd: garbage after the end of a frame");
    this.#inFrame = true;
    this.#expect("descriptor", 1);
  }

  #readDescriptor(descriptor: number): void {
    const singleSegment = (descriptor >> 5) & 1;
    const sizeFlag = descriptor >> 6;
    const sizeBytes = CONTENT_SIZE_BYTES[sizeFlag] || singleSegment;
    const idBytes = DICTIONARY_ID_BYTES[descriptor & 3] ?? 0;
    this.#hasChecksum = ((descriptor >> 2) & 1) === 1;
    // Without a content size there is a window size: the rest of the header is never empty.
    this.#expect("frame-header", 1 - singleSegment + idBytes + sizeBytes);
  }

  #readBlockHeader(header: number): void {
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) throw corrupt("zstd: reserved block type");
    this.#contents = type === RLE_BLOCK ? 1 : header >> 3;
    if ((header & 1) === 0) this.#expect("block-header", BLOCK_HEADER_BYTES);
    else if (this.#hasChecksum) this.#expect("checksum", CHECKSUM_BYTES);
    else this.#expect("magic", MAGIC_BYTES);
  }
}

// SPDX-License-Identifier: Apache-2.0

/** A chunk that is smaller than this part of the memory it lies in is copied, not kept alive with all of it. */
const KEEP_RATIO = 4;
const TAIL_MIN = 1024;
const TAIL_MAX = 16 * 1024;

/**
 * Bytes that arrived and that nobody has read.
 *
 * A received chunk is a view of a large read buffer. A peer could make each view one byte long and so pin a buffer per
 * byte: small chunks are therefore copied together, so that memory stays within a small factor of `length`.
 */
export class Inbox {
  #chunks: Buffer[] = [];
  #head = 0;
  #tail: Buffer | undefined; // last chunk, if it is ours and has room
  #tailLength = 0;
  length = 0;

  add(chunk: Buffer): void {
    this.length += chunk.length;
    if (chunk.length * KEEP_RATIO >= chunk.buffer.byteLength) {
      this.#sealTail();
      this.#chunks.push(chunk);
      return;
    }
    let offset = 0;
    while (offset < chunk.length) {
      const tail = this.#tail ?? this.#newTail(chunk.length - offset);
      const copied = chunk.copy(tail, this.#tailLength, offset);
      offset += copied;
      this.#tailLength += copied;
      if (this.#tailLength === tail.length) this.#sealTail();
    }
  }

  /** The oldest bytes, as many as lie together; undefined if there are none. */
  take(): Buffer | undefined {
    if (this.#head === this.#chunks.length) this.#sealTail();
    const chunk = this.#chunks[this.#head];
    if (!chunk) return undefined;
    this.#head++;
    if (this.#head === this.#chunks.length) {
      this.#chunks = [];
      this.#head = 0;
    }
    this.length -= chunk.length;
    return chunk;
  }

  clear(): void {
    this.#chunks = [];
    this.#head = 0;
    this.#tail = undefined;
    this.#tailLength = 0;
    this.length = 0;
  }

  #newTail(needed: number): Buffer {
    // Doubling with what is here already keeps the number of chunks small without wasting memory on short messages.
    const size = Math.min(TAIL_MAX, Math.max(TAIL_MIN, needed, this.length));
    const tail = Buffer.allocUnsafeSlow(size);
    this.#tail = tail;
    this.#tailLength = 0;
    return tail;
  }

  #sealTail(): void {
    if (this.#tail && this.#tailLength > 0) this.#chunks.push(this.#tail.subarray(0, this.#tailLength));
    this.#tail = undefined;
    this.#tailLength = 0;
  }
}

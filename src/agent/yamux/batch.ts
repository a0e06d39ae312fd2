// SPDX-License-Identifier: Apache-2.0
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { HEADER_SIZE, TYPE_DATA, writeHeader } from "./frame.ts";

/** Room for headers and small payloads, which are copied together. */
const SCRATCH_SIZE = 32 * 1024;
/** A payload up to this size is cheaper to copy than to hand over as a piece of its own. */
const COPY_LIMIT = 4 * 1024;

/** What goes to the socket in one vectored write. One at a time is under way, so its memory is used again. */
export class Batch {
  readonly #duplex: Duplex;
  #scratch = Buffer.allocUnsafeSlow(SCRATCH_SIZE);
  #scratchStart = 0; // of what is not yet a piece
  #scratchEnd = 0;
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  constructor(duplex: Duplex) {
    this.#duplex = duplex;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether one more header, or a data frame with a payload that is to be copied, can be added. */
  get hasRoom(): boolean {
    return this.#scratchEnd + HEADER_SIZE + COPY_LIMIT <= SCRATCH_SIZE;
  }

  header(type: number, flags: number, streamId: number, length: number): void {
    writeHeader(this.#scratch, this.#scratchEnd, type, flags, streamId, length);
    this.#scratchEnd += HEADER_SIZE;
    this.#bytes += HEADER_SIZE;
  }

  data(streamId: number, payload: Uint8Array): void {
    this.header(TYPE_DATA, 0, streamId, payload.length);
    this.#bytes += payload.length;
    if (payload.length <= COPY_LIMIT) {
      this.#scratch.set(payload, this.#scratchEnd);
      this.#scratchEnd += payload.length;
    } else {
      this.#seal();
      this.#pieces.push(payload);
    }
  }

  /** Writes everything; `written` is called when none of the memory is needed any more. */
  flush(written: () => void): void {
    this.#seal();
    const pieces = this.#pieces;
    const last = pieces.length - 1;
    this.#pieces = [];
    this.#bytes = 0;
    this.#scratchStart = 0;
    this.#scratchEnd = 0;
    // A socket is done with a buffer when it says so. Another duplex may have passed it on by reference.
    if (!(this.#duplex instanceof Socket)) this.#scratch = Buffer.allocUnsafeSlow(SCRATCH_SIZE);
    if (last > 0) this.#duplex.cork();
    pieces.forEach((piece, index) => {
      this.#duplex.write(piece, index === last ? written : undefined);
    });
    if (last > 0) this.#duplex.uncork();
  }

  #seal(): void {
    if (this.#scratchEnd === this.#scratchStart) return;
    this.#pieces.push(this.#scratch.subarray(this.#scratchStart, this.#scratchEnd));
    this.#scratchStart = this.#scratchEnd;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Batch } from "./batch.ts";
import { FLAG_FIN, INITIAL_WINDOW, ProtocolViolation, TYPE_WINDOW_UPDATE } from "./frame.ts";

const MAX_UINT32 = 0xffff_ffff;

export type WriteCallback = (error?: Error | null) => void;

/** The sending half of a substream: one write at a time, as far as the peer's window goes. No queue of its own. */
export class Outbound {
  readonly #id: number;
  #window = INITIAL_WINDOW;
  #chunks: readonly Uint8Array[] = [];
  #index = 0; // of the chunk that is being sent
  #offset = 0; // in it
  #writeCallback: WriteCallback | undefined;
  #endCallback: WriteCallback | undefined;
  #endWanted = false;
  #endSent = false;

  constructor(id: number) {
    this.#id = id;
  }

  /** Whether there is something that can be sent now. */
  get canSend(): boolean {
    return this.#hasData() ? this.#window > 0 : this.#endWanted && !this.#endSent;
  }

  /** Whether the end was said, or will be once the data is out. */
  get isEnding(): boolean {
    return this.#endWanted;
  }

  /** Whether the end was said, and the socket has it. */
  get isEnded(): boolean {
    return this.#endSent && this.#endCallback === undefined;
  }

  /** The next one after `done`, and the chunks are not to be changed before. */
  write(chunks: readonly Uint8Array[], done: WriteCallback): void {
    this.#chunks = chunks;
    this.#index = 0;
    this.#offset = 0;
    this.#writeCallback = done;
    this.#skipEmpty();
    if (!this.#hasData()) this.#finishWrite();
  }

  /** Half-closes after the data: `done` once the end is on its way. */
  end(done: WriteCallback): void {
    this.#endWanted = true;
    this.#endCallback = done;
  }

  /** The peer takes this much more. */
  grant(delta: number): void {
    this.#window += delta;
    if (this.#window > MAX_UINT32) throw new ProtocolViolation(`stream ${this.#id}: window overflow`);
  }

  /** Adds up to `limit` bytes of data, then the end, to a batch. */
  take(batch: Batch, limit: number): void {
    let room = Math.min(limit, this.#window);
    while (room > 0 && batch.hasRoom) {
      const chunk = this.#chunks[this.#index];
      if (!chunk) break;
      const size = Math.min(room, chunk.length - this.#offset);
      batch.data(this.#id, size === chunk.length ? chunk : chunk.subarray(this.#offset, this.#offset + size));
      this.#window -= size;
      room -= size;
      this.#offset += size;
      this.#skipEmpty();
    }
    if (this.#endWanted && !this.#endSent && !this.#hasData() && batch.hasRoom) {
      this.#endSent = true;
      batch.header(TYPE_WINDOW_UPDATE, FLAG_FIN, this.#id, 0);
    }
  }

  /** What was taken is written. */
  written(): void {
    if (!this.#hasData()) this.#finishWrite();
    if (!this.#endSent) return;
    const done = this.#endCallback;
    this.#endCallback = undefined;
    done?.(null);
  }

  fail(error: Error): void {
    const writeDone = this.#writeCallback;
    const endDone = this.#endCallback;
    this.#writeCallback = undefined;
    this.#endCallback = undefined;
    this.#chunks = [];
    writeDone?.(error);
    endDone?.(error);
  }

  #finishWrite(): void {
    const done = this.#writeCallback;
    if (!done) return;
    this.#writeCallback = undefined;
    this.#chunks = [];
    done(null);
  }

  #skipEmpty(): void {
    for (;;) {
      const chunk = this.#chunks[this.#index];
      if (!chunk || this.#offset < chunk.length) return;
      this.#index++;
      this.#offset = 0;
    }
  }

  #hasData(): boolean {
    return this.#index < this.#chunks.length;
  }
}

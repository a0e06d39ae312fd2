// SPDX-License-Identifier: Apache-2.0
import { Duplex } from "node:stream";
import { MicrovmError } from "../../errors.ts";
import type { Consumer } from "./inbound.ts";
import type { WriteCallback } from "./outbound.ts";
import type { Substream } from "./substream.ts";

export interface YamuxStreamOptions {
  /** False: nothing is read from the peer. */
  readonly readable?: boolean;
  /** False: nothing is written; our direction is half-closed from the start. */
  readonly writable?: boolean;
}

/**
 * A yamux stream as a `Duplex`.
 *
 * It can exist before its substream does: what is written waits for `attach`. `destroy()` before both directions have
 * ended resets the stream. Errors need no listener: a peer must not be able to end the process with one.
 */
export class YamuxStream extends Duplex {
  readonly #isReadable: boolean;
  readonly #isWritable: boolean;
  #substream: Substream | undefined;
  #wantsData = false;
  #heldChunks: readonly Uint8Array[] = [];
  #heldWrite: WriteCallback | undefined;
  #heldEnd: WriteCallback | undefined;

  constructor({ readable = true, writable = true }: YamuxStreamOptions = {}) {
    // One received chunk at a time: the rest waits where the receive window counts it.
    const options = { readable, writable, readableHighWaterMark: 1, writableHighWaterMark: 256 * 1024 };
    super(options);
    this.#isReadable = readable;
    this.#isWritable = writable;
    this.on("error", () => {});
  }

  get isAttached(): boolean {
    return this.#substream !== undefined;
  }

  /** Gives the stream its substream. A stream that was destroyed meanwhile resets it. */
  attach(substream: Substream): void {
    if (this.destroyed) {
      substream.reset();
      return;
    }
    this.#substream = substream;
    substream.consume(this.#consumer());
    if (!this.#isWritable) substream.end(() => {});
    if (this.#heldWrite) substream.write(this.#heldChunks, this.#heldWrite);
    if (this.#heldEnd) substream.end(this.#heldEnd);
    this.#heldChunks = [];
    this.#heldWrite = undefined;
    this.#heldEnd = undefined;
    if (this.#wantsData || !this.#isReadable) substream.resume();
  }

  /** No more bytes are to come: what arrived so far is all there is to read. What was not sent is lost. */
  truncate(): void {
    if (this.#substream) this.#substream.truncate();
    else if (this.#isWritable) this.destroy();
    else this.push(null);
  }

  /** Breaks the stream: what arrived can still be read, then comes the error. */
  fail(error: MicrovmError): void {
    if (this.#substream) this.#substream.reset(error);
    else this.destroy(error);
  }

  #consumer(): Consumer {
    if (this.#isReadable) {
      return {
        onData: (chunk) => this.#deliver(chunk),
        onEnd: () => {
          this.push(null);
        },
        onFailure: (error) => {
          this.destroy(error);
        },
      };
    }
    // Bytes that nobody asked for are dropped; the peer's end says that it reads no more.
    return { onData: () => true, onEnd: () => this.destroy(), onFailure: (error) => this.destroy(error) };
  }

  /** What a listener of this stream throws is the caller's to see, and not the other streams' to suffer from. */
  #deliver(chunk: Buffer): boolean {
    try {
      return this.push(chunk);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
      return true;
    }
  }

  override _read(): void {
    this.#wantsData = true;
    this.#substream?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: WriteCallback): void {
    this.#send([chunk], done);
  }

  override _writev(entries: { chunk: Buffer }[], done: WriteCallback): void {
    this.#send(
      entries.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: WriteCallback): void {
    if (this.#substream) this.#substream.end(done);
    else this.#heldEnd = done;
  }

  override _destroy(error: Error | null, done: WriteCallback): void {
    this.#substream?.release(this.#isReadable);
    const held = this.#heldWrite ?? this.#heldEnd;
    this.#heldWrite = undefined;
    this.#heldEnd = undefined;
    held?.(error ?? new MicrovmError("CHANNEL_CLOSED", "the stream was closed", { stage: "exec" }));
    done(error);
  }

  #send(chunks: readonly Uint8Array[], done: WriteCallback): void {
    if (this.#substream) {
      this.#substream.write(chunks, done);
    } else {
      this.#heldChunks = chunks;
      this.#heldWrite = done;
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from "node:fs/promises";

const BUFFER_SIZE = 1024 * 1024;

/** Writes a file from front to back through one buffer; what is skipped becomes zeros. */
export class FileSink {
  readonly #file: FileHandle;
  readonly #buffer = Buffer.alloc(BUFFER_SIZE);
  /** Offset in the file of the buffer's first byte. */
  #base = 0;
  /** Bytes of the buffer in use. */
  #used = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Zeroed bytes of the buffer that will become `[offset, offset + length)` of the file; undefined when the
   * buffer has to be flushed first. `offset` must not lie before the end of what was asked for last.
   */
  tryView(offset: number, length: number): Buffer | undefined {
    const start = offset - this.#base;
    if (start + length > BUFFER_SIZE) return undefined;
    this.#used = start + length;
    return this.#buffer.subarray(start, start + length);
  }

  async view(offset: number, length: number): Promise<Buffer> {
    return this.tryView(offset, length) ?? (await this.#flushedView(offset, length));
  }

  /** Writes bytes of any length. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += BUFFER_SIZE) {
      const piece = bytes.subarray(at, at + BUFFER_SIZE);
      (await this.view(offset + at, piece.length)).set(piece);
    }
  }

  /** Writes out the rest and gives the file its final size. */
  async finish(size: number): Promise<void> {
    await this.#flush();
    await this.#file.truncate(size);
  }

  async #flushedView(offset: number, length: number): Promise<Buffer> {
    await this.#flush();
    this.#base = offset;
    const view = this.tryView(offset, length);
    if (view === undefined) throw new RangeError("view is larger than the buffer");
    return view;
  }

  async #flush(): Promise<void> {
    let written = 0;
    while (written < this.#used) {
      const { bytesWritten } = await this.#file.write(
        this.#buffer,
        written,
        this.#used - written,
        this.#base + written,
      );
      written += bytesWritten;
    }
    this.#buffer.fill(0, 0, this.#used);
    this.#base += this.#used;
    this.#used = 0;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from "node:fs/promises";
import { formatDigest, hasherOf } from "../digest.ts";
import { corrupt } from "../image-errors.ts";
import { paddedSize } from "../layout.ts";
import type { EntryBudget } from "../limits.ts";
import type { TarEntry } from "../tar/entry.ts";
import { TarScanner } from "../tar/scanner.ts";
import type { LayerBudget } from "./byte-budget.ts";
import { SNIFF_BYTES, sniffCompression } from "./compression.ts";
import { createDecoder, type Decoder } from "./decoder.ts";

/** What a layer turned out to be. */
export interface WrittenLayer {
  /** Of the tar, without the padding of its file. */
  readonly sizeBytes: number;
  readonly entries: readonly TarEntry[];
}

export interface LayerBudgets {
  readonly bytes: LayerBudget;
  readonly entries: EntryBudget;
}

/** Decompresses a layer into a file; hashes and parses the tar on its way there. */
export class LayerFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #diffId: string;
  readonly #hash;
  readonly #budgets: LayerBudgets;
  readonly #entries: TarEntry[] = [];
  readonly #scanner: TarScanner;
  #decoder: Decoder | undefined;
  /** The blob's first bytes, until there are enough of them to tell the compression. */
  #start: Buffer = Buffer.alloc(0);
  #compressed = 0;
  #size = 0;

  private constructor(file: FileHandle, diffId: string, budgets: LayerBudgets) {
    this.#file = file;
    this.#diffId = diffId;
    this.#hash = hasherOf(diffId);
    this.#budgets = budgets;
    this.#scanner = new TarScanner((entry) => this.#entries.push(entry), { budget: budgets.entries });
  }

  static async create(path: string, diffId: string, budgets: LayerBudgets): Promise<LayerFile> {
    return new LayerFile(await open(path, "wx", 0o600), diffId, budgets);
  }

  /** Takes the next bytes of the blob. */
  async write(chunk: Buffer): Promise<void> {
    this.#compressed += chunk.length;
    if (this.#decoder) return this.#decoder.write(chunk);
    this.#start = this.#start.length === 0 ? chunk : Buffer.concat([this.#start, chunk]);
    if (this.#start.length >= SNIFF_BYTES) await this.#startDecoder().write(this.#start);
  }

  /** The blob is complete: checks the tar's end and its digest. */
  async finish(): Promise<WrittenLayer> {
    if (!this.#decoder) await this.#startDecoder().write(this.#start);
    await this.#decoder?.end();
    this.#scanner.end();
    const actual = formatDigest(this.#hash, this.#diffId);
    if (actual !== this.#diffId) {
      throw corrupt(`diff id mismatch: the config says ${this.#diffId}, the layer is ${actual}`);
    }
    await this.#file.truncate(paddedSize(this.#size));
    return { sizeBytes: this.#size, entries: this.#entries };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#decoder?.destroy();
    await this.#file.close();
  }

  #startDecoder(): Decoder {
    this.#decoder = createDecoder(sniffCompression(this.#start), (chunk) => this.#take(chunk));
    return this.#decoder;
  }

  async #take(chunk: Buffer): Promise<void> {
    this.#budgets.bytes.take(chunk.length, this.#compressed);
    this.#scanner.write(chunk);
    const position = this.#size;
    this.#size += chunk.length;
    // The kernel copies while this thread hashes.
    const writing = writeAll(this.#file, chunk, position);
    this.#hash.update(chunk);
    await writing;
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await file.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
  }
}

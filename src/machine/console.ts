// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";

const FILE_LIMIT = 1 << 20;
const TAIL_LIMIT = 4096;

/**
 * The guest's console, kept in `console.log` and the file before it (2 MiB at most), and its end in memory: the
 * evidence when a boot fails. A full disk costs the log, not the VM.
 */
export class ConsoleLog {
  readonly #path: string;
  #file: number | undefined;
  #size = 0;
  #tail = Buffer.alloc(0);
  /** Settles when the console has been closed by the VMM. */
  readonly ended: Promise<void>;

  constructor(dir: string, source: Readable) {
    this.#path = join(dir, "console.log");
    this.#try(() => {
      this.#file = openSync(this.#path, "w", 0o600);
    });
    this.ended = new Promise((resolve) => {
      source.on("data", (chunk: Buffer) => this.#append(chunk));
      source.on("error", () => {}); // the VMM was killed: what it said is what there is
      source.once("close", () => {
        this.#stop();
        resolve();
      });
    });
  }

  /** The last lines, without control characters: printable anywhere. */
  tail(): string {
    return stripVTControlCharacters(this.#tail.toString("utf8"))
      .replace(/[^\P{C}\n\t]/gu, "")
      .trim();
  }

  #append(chunk: Buffer): void {
    this.#tail = Buffer.concat([this.#tail, chunk]).subarray(-TAIL_LIMIT);
    if (this.#file === undefined) return;
    this.#try(() => {
      if (this.#size + chunk.length > FILE_LIMIT) this.#rotate();
      // Synchronous: a guest that floods its console waits for the disk, and no memory fills up.
      if (this.#file !== undefined) this.#size += writeSync(this.#file, chunk);
    });
  }

  #rotate(): void {
    this.#stop();
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = openSync(this.#path, "w", 0o600);
    this.#size = 0;
  }

  #stop(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) closeSync(file);
  }

  #try(step: () => void): void {
    try {
      step();
    } catch {
      this.#file = undefined; // nowhere left to write to: the tail in memory goes on
    }
  }
}

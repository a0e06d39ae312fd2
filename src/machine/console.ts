// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, renameSync, type WriteStream } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";

const FILE_LIMIT = 1 << 20;
const TAIL_LIMIT = 4096;

/**
 * The guest's console, kept in `console.log` and the file before it (2 MiB at most), and its end in memory: the
 * evidence when a boot fails. Never makes the guest wait.
 */
export class ConsoleLog {
  readonly #path: string;
  #file: WriteStream;
  #size = 0;
  #tail = Buffer.alloc(0);
  /** Settles when the console has been closed by the VMM. */
  readonly ended: Promise<void>;

  constructor(dir: string, source: Readable) {
    this.#path = join(dir, "console.log");
    this.#file = this.#open();
    this.ended = new Promise((resolve) => {
      source.on("data", (chunk: Buffer) => this.#append(chunk));
      source.once("error", () => resolve()); // the VMM was killed: what it said is what there is
      source.once("close", () => this.#file.end(() => resolve()));
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
    if (this.#size + chunk.length > FILE_LIMIT) this.#rotate();
    this.#size += chunk.length;
    this.#file.write(chunk);
  }

  #rotate(): void {
    this.#file.end();
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = this.#open();
    this.#size = 0;
  }

  #open(): WriteStream {
    const file = createWriteStream(this.#path, { flags: "w", mode: 0o600 });
    file.on("error", () => {}); // a full disk costs the log, not the VM
    return file;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { watch } from "node:fs";
import { type FileHandle, open, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../errors.ts";

// The log of a workload's output: records of a 16-byte header and the bytes as they came.
//
//   0  u8   stream: 1 stdout, 2 stderr
//   4  u32  length of the bytes, big-endian
//   8  f64  time of arrival, milliseconds since the epoch, big-endian
//
// Two files of at most FILE_LIMIT: the current one, and the one before it. Older output is dropped.

const HEADER_SIZE = 16;
const RECORD_LIMIT = 1 << 20;
const FILE_LIMIT = 16 << 20;
const CURRENT = "output.log";
const PREVIOUS = "output.log.1";

export type OutputStream = "stdout" | "stderr";

/** One piece of output as the workload wrote it: not a line. */
export interface OutputRecord {
  readonly stream: OutputStream;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly data: Buffer;
}

/** Appends output to the log of one VM; the disk it takes is bounded. */
export class OutputLog {
  readonly #dir: string;
  #file: FileHandle;
  #size = 0;
  #broken = false;
  #last: Promise<void> = Promise.resolve();

  private constructor(dir: string, file: FileHandle) {
    this.#dir = dir;
    this.#file = file;
  }

  static async create(dir: string): Promise<OutputLog> {
    return new OutputLog(dir, await open(join(dir, CURRENT), "wx", 0o600));
  }

  /**
   * Settles once the bytes are in the file: a caller that waits passes on the disk's own pace. A disk that is full
   * costs the log, not the workload: from the first failure on nothing is kept.
   */
  append(stream: OutputStream, data: Uint8Array): Promise<void> {
    this.#last = this.#last.then(async () => {
      if (this.#broken) return;
      try {
        await this.#append(stream, data);
      } catch {
        this.#broken = true; // said above
      }
    });
    return this.#last;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }

  async #append(stream: OutputStream, data: Uint8Array): Promise<void> {
    for (let offset = 0; offset < data.length; offset += RECORD_LIMIT) {
      const piece = data.subarray(offset, offset + RECORD_LIMIT);
      if (this.#size > 0 && this.#size + piece.length > FILE_LIMIT) await this.#rotate();
      const header = Buffer.alloc(HEADER_SIZE);
      header[0] = stream === "stdout" ? 1 : 2;
      header.writeUInt32BE(piece.length, 4);
      header.writeDoubleBE(Date.now(), 8);
      await this.#file.appendFile(Buffer.concat([header, piece])); // whole, unlike a single write
      this.#size += HEADER_SIZE + piece.length;
    }
  }

  async #rotate(): Promise<void> {
    const next = await open(join(this.#dir, `${CURRENT}.new`), "wx", 0o600);
    await rename(join(this.#dir, CURRENT), join(this.#dir, PREVIOUS));
    await rename(join(this.#dir, `${CURRENT}.new`), join(this.#dir, CURRENT));
    await this.#file.close();
    this.#file = next;
    this.#size = 0;
  }
}

/**
 * Reads the log of a VM from its oldest record on.
 *
 * @param follow waits for more until this signal is aborted; without it, ends at the end of the log
 */
export async function* readOutputLog(dir: string, follow?: AbortSignal): AsyncGenerator<OutputRecord> {
  using changes = follow ? watchDirectory(dir, follow) : undefined;
  let seen: number | undefined; // inode of the file read last
  const previous = await openIfThere(join(dir, PREVIOUS));
  if (previous) {
    seen = (await previous.stat()).ino;
    yield* readRecords(previous, async () => false);
  }
  for (;;) {
    const file = await openIfThere(join(dir, CURRENT));
    const inode = file ? (await file.stat()).ino : undefined;
    if (!file || inode === seen) {
      await file?.close();
      if (!changes || !(await changes.next())) return;
      continue;
    }
    seen = inode;
    yield* readRecords(file, async () => {
      // Looked at before waiting: what changed since the last read is found either way.
      if (!changes || (await inodeOf(join(dir, CURRENT))) !== inode) return false;
      return changes.next();
    });
    if (!changes || follow?.aborted) return;
  }
}

/** Whole records up to the end; then `more` decides, and the rest of a record that was half written is awaited too. */
async function* readRecords(file: FileHandle, more: () => Promise<boolean>): AsyncGenerator<OutputRecord> {
  try {
    const header = Buffer.alloc(HEADER_SIZE);
    let position = 0;
    let last = false;
    for (;;) {
      const { bytesRead } = await file.read(header, 0, HEADER_SIZE, position);
      const length = bytesRead === HEADER_SIZE ? header.readUInt32BE(4) : 0;
      if (length > RECORD_LIMIT) return; // not a log of ours
      const data = Buffer.alloc(length);
      if (
        bytesRead === HEADER_SIZE &&
        (await file.read(data, 0, length, position + HEADER_SIZE)).bytesRead === length
      ) {
        position += HEADER_SIZE + length;
        yield { stream: header[0] === 2 ? "stderr" : "stdout", time: header.readDoubleBE(8), data };
      } else if (last) {
        return;
      } else {
        // After the word that nothing more comes, one look for what came before it.
        last = !(await more());
      }
    }
  } finally {
    await file.close();
  }
}

/** Tells of each change in a directory, none lost between two calls of `next`. */
function watchDirectory(dir: string, signal: AbortSignal): { next(): Promise<boolean> } & Disposable {
  let changed = false;
  let wake = () => {};
  const notice = () => {
    changed = true;
    wake();
  };
  const watcher = watch(dir, notice);
  watcher.on("error", notice);
  signal.addEventListener("abort", notice);
  return {
    async next() {
      while (!changed && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
      changed = false;
      return !signal.aborted;
    },
    [Symbol.dispose]() {
      watcher.close();
      signal.removeEventListener("abort", notice);
    },
  };
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).ino;
  } catch {
    return undefined; // the VM was removed
  }
}

// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { zstdDecompressSync } from "node:zlib";
import { MicrovmError, messageOf } from "../errors.ts";
import { packageFile } from "../internal/package.ts";

/** What a machine has to know about its writable disk. */
export interface WritableDisk {
  /** Whether the guest has to grow the file system to fill the disk. */
  readonly grow: boolean;
}

const MiB = 2 ** 20;

// See scripts/make-ext4-template.ts, which makes them and describes their format. Largest first.
const templates = [
  { size: 20480 * MiB, file: "ext4-20g.zst" },
  { size: 1024 * MiB, file: "ext4-1g.zst" },
  { size: 64 * MiB, file: "ext4-64m.zst" },
] as const;

/** The smallest disk that can be made. */
export const minimumDiskBytes = 64 * MiB;

/** The disk that takes the guest no time to grow. */
export const defaultDiskBytes = 20480 * MiB;

const magic = "MVMEXT4\0";
const headerSize = 16;
const runHeaderSize = 12;
const largestTemplate = 4 * MiB;

/**
 * Makes a sparse disk with an empty ext4 file system on it, which takes some hundred kilobytes of real space.
 *
 * @param path - must not exist; readable by this user only
 * @param sizeBytes - of the disk, at least 64 MiB
 * @throws MicrovmError `INVALID_OPTION` if the size is out of range, `INTERNAL` if the disk cannot be written.
 */
export async function createWritableDisk(path: string, sizeBytes: number): Promise<WritableDisk> {
  const template = templates.find(({ size }) => size <= sizeBytes);
  if (!template || !Number.isSafeInteger(sizeBytes)) {
    throw new MicrovmError("INVALID_OPTION", `disk of ${sizeBytes} bytes: the smallest is 64 MiB`, {
      stage: "options",
    });
  }
  try {
    expand(readTemplate(template.file), path, sizeBytes);
  } catch (error) {
    throw new MicrovmError("INTERNAL", `writable disk ${path}: ${messageOf(error)}`, {
      stage: "config",
      cause: error,
    });
  }
  return { grow: sizeBytes > template.size };
}

// Synchronous on purpose: two dozen small writes to the page cache are done sooner than they are queued.
function readTemplate(file: string): Buffer {
  const compressed = readFileSync(packageFile(`assets/${file}`));
  const template = zstdDecompressSync(compressed, { maxOutputLength: largestTemplate });
  if (template.toString("latin1", 0, magic.length) !== magic) throw new Error(`${file}: not a template`);
  return template;
}

function expand(template: Buffer, path: string, size: number): void {
  const disk = openSync(path, "wx", 0o600);
  try {
    ftruncateSync(disk, size);
    writeRuns(disk, template);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(disk);
  }
}

function writeRuns(disk: number, template: Buffer): void {
  for (let at = headerSize; at < template.length; ) {
    const offset = Number(template.readBigUInt64LE(at));
    const data = template.subarray(at + runHeaderSize, at + runHeaderSize + template.readUInt32LE(at + 8));
    if (writeSync(disk, data, 0, data.length, offset) !== data.length) throw new Error("short write");
    at += runHeaderSize + data.length;
  }
}

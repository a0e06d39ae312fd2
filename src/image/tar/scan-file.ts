// SPDX-License-Identifier: Apache-2.0
import { open } from "node:fs/promises";
import type { TarEntry } from "./entry.ts";
import { TarScanner, type TarScannerOptions } from "./scanner.ts";

/** Big enough that headers of small files come many at a time, small enough to stay in the CPU's cache. */
const READ_AHEAD = 256 * 1024;
/** Contents longer than this are seeked over; reading less costs no more than the system call saved. */
const WORTH_A_SEEK = 64 * 1024;

/**
 * Entries of a tar on disk, by its headers alone.
 *
 * @throws MicrovmError IMAGE_CORRUPT, IMAGE_LIMIT, IMAGE_UNSUPPORTED for what the archive holds; the signal's
 *   reason when aborted; system errors as they are
 */
export async function scanTarFile(
  path: string,
  signal?: AbortSignal,
  options: TarScannerOptions = {},
): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner((entry) => entries.push(entry), options);
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const buffer = Buffer.allocUnsafe(READ_AHEAD);
    let position = 0;
    while (position < size) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) break;
      scanner.write(buffer.subarray(0, bytesRead));
      position += bytesRead;
      // Never past the end of the file, so that a truncated tar is told from a complete one.
      const skipped = Math.min(scanner.skippable, size - position);
      if (skipped >= WORTH_A_SEEK) {
        scanner.skip(skipped);
        position += skipped;
      }
    }
  } finally {
    await file.close();
  }
  scanner.end();
  return entries;
}

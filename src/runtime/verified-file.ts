// SPDX-License-Identifier: Apache-2.0
import { createHash, randomBytes } from "node:crypto";
import { constants, type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isErrno } from "../errors.ts";

const CHUNK = 4 << 20;

/** What a file turned out to be. */
export type FileState = "good" | "missing" | "corrupt";

/**
 * Whether `path` is a plain file (not a link) of exactly this content. Reads and hashes all of it, every time: 21 MB
 * take some 15 ms, and anything less would only prove that somebody once wrote it down.
 */
export async function checkFile(
  path: string,
  expected: { sizeBytes?: number; sha256: string },
): Promise<FileState> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "missing";
    if (isErrno(error, "ELOOP")) return "corrupt";
    throw error;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) return "corrupt";
    if (expected.sizeBytes !== undefined && stat.size !== expected.sizeBytes) return "corrupt";
    return (await hashOf(file)) === expected.sha256 ? "good" : "corrupt";
  } finally {
    await file.close();
  }
}

async function hashOf(file: FileHandle): Promise<string> {
  const hash = createHash("sha256");
  let [current, next] = [Buffer.allocUnsafeSlow(CHUNK), Buffer.allocUnsafeSlow(CHUNK)];
  // The next chunk is read while this one is hashed.
  let reading = file.read(current, 0, CHUNK);
  for (;;) {
    const { bytesRead } = await reading;
    if (bytesRead === 0) return hash.digest("hex");
    reading = file.read(next, 0, CHUNK);
    hash.update(current.subarray(0, bytesRead));
    [current, next] = [next, current];
  }
}

/** SHA-256 of several pieces of bytes, one after another. */
export function digestOf(parts: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/**
 * Makes a file appear at `path` with all its content, replacing what was there. Any number of processes may do
 * this at once. It is not synced to the medium: what a power cut leaves is found by `checkFile`.
 */
export async function publishFile(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString("hex")}`);
  const file = await open(temporary, "wx", 0o600);
  try {
    try {
      for (const part of parts) await file.writeFile(part);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

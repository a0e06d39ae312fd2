// SPDX-License-Identifier: Apache-2.0
import { lstat, mkdir, open, readdir, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isErrno } from "../errors.ts";
import { digestOf } from "./digest.ts";
import type { StoreLayout } from "./layout.ts";
import type { Staging } from "./staging.ts";

/**
 * Gives a finished directory its place in the store, in one step that survives a crash.
 *
 * @returns false if another process was first: what it put there is as good, being named by its content
 */
export async function publishDir(from: string, to: string): Promise<boolean> {
  // A name that is there after a crash must stand for contents that are there, too.
  for (const name of await readdir(from)) await sync(join(from, name));
  await sync(from);
  await mkdir(dirname(to), { recursive: true, mode: 0o700 });
  try {
    await rename(from, to);
  } catch (error) {
    if (isErrno(error, "ENOTEMPTY") || isErrno(error, "EEXIST")) return false;
    throw error;
  }
  await sync(dirname(to));
  return true;
}

/** Stores a manifest or config under its digest. */
export async function publishBlob(
  layout: StoreLayout,
  staging: Staging,
  digest: string,
  bytes: Buffer,
): Promise<void> {
  const path = layout.blob(digest);
  const temporary = staging.path("blob");
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.datasync();
  } finally {
    await file.close();
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await rename(temporary, path);
  await sync(dirname(path));
}

/** A stored blob, its digest verified again; undefined if it is not there or not what it was. */
export async function readBlob(layout: StoreLayout, digest: string): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(layout.blob(digest), "r");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  try {
    const bytes = await file.readFile();
    return digestOf(bytes, digest) === digest ? bytes : undefined;
  } finally {
    await file.close();
  }
}

/** Bytes of a regular file; undefined if there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const stat = await lstat(path);
    return stat.isFile() ? stat.size : undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

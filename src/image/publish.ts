// SPDX-License-Identifier: Apache-2.0
import { renameSync } from "node:fs";
import { mkdir, open, readdir, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isErrno } from "../errors.ts";
import type { Catalog } from "./catalog.ts";
import { digestOf } from "./digest.ts";
import type { StoreLayout } from "./layout.ts";
import type { Staging } from "./staging.ts";

/** What publishing needs of a store. */
export interface PublishContext {
  readonly catalog: Catalog;
  readonly staging: Staging;
}

/**
 * Gives a finished directory its place in the store, in one step that survives a crash. What is there already stays
 * if an image is known to use it, which `isInUse` says; what a failed pull has left makes room.
 */
export async function publishDir(
  { catalog, staging }: PublishContext,
  from: string,
  to: string,
  isInUse: () => boolean,
): Promise<void> {
  // A name that is there after a crash must stand for contents that are there, too.
  for (const name of await readdir(from)) await sync(join(from, name));
  await sync(from);
  await mkdir(dirname(to), { recursive: true, mode: 0o700 });
  catalog.exclusively(() => {
    if (isInUse()) return;
    staging.takeAway(to);
    renameSync(from, to);
  });
  await sync(dirname(to));
}

/** Stores a manifest or config under its digest, unless it is there. */
export async function publishBlob(
  layout: StoreLayout,
  staging: Staging,
  digest: string,
  bytes: Buffer,
): Promise<void> {
  if (await readBlob(layout, digest)) return;
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

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

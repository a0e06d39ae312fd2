// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../errors.ts";
import { identify, isRunning } from "../internal/process.ts";
import type { StoreLayout } from "./layout.ts";

/**
 * A directory for work in progress. Its name says which process it belongs to, so that whoever comes next can
 * remove what a dead one left behind, and nothing else.
 */
export class Staging implements AsyncDisposable {
  readonly dir: string;
  #count = 0;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static create(layout: StoreLayout): Staging {
    const owner = identify(process.pid) ?? { pid: process.pid, startTime: "" };
    const dir = join(layout.staging, `${owner.pid}-${owner.startTime}-${randomBytes(8).toString("hex")}`);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return new Staging(dir);
  }

  /** A path in here that nothing has used yet. */
  path(purpose: string): string {
    this.#count += 1;
    return join(this.dir, `${purpose}-${this.#count}`);
  }

  /** Moves a directory of the store in here; false if it is not there. */
  takeAway(path: string): boolean {
    try {
      renameSync(path, this.path("trash"));
      return true;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return false;
      throw error;
    }
  }

  removeSync(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** Removes the staging directories of processes that are no more. */
export async function sweepStaging(layout: StoreLayout): Promise<void> {
  for (const name of list(layout.staging)) {
    const [pid = "", startTime = ""] = name.split("-");
    if (isRunning({ pid: Number(pid), startTime })) continue;
    await rm(join(layout.staging, name), { recursive: true, force: true });
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { identify, isRunning, type ProcessIdentity } from "../internal/process.ts";
import type { VmRegistry } from "../state/index.ts";
import { removeFiles } from "./remove.ts";

const OWNER = "owner.json";

/** Notes in a machine's directory that it is this process's: from now on only its end makes the directory rubbish. */
export function claim(dir: string): void {
  writeFileSync(join(dir, OWNER), JSON.stringify(identify(process.pid)), { mode: 0o600 });
}

/** Whether the process that owns a machine still runs, which it does even if api.sock does not answer. */
export function isOwned(dir: string): boolean {
  try {
    return isRunning(JSON.parse(readFileSync(join(dir, OWNER), "utf8")) as ProcessIdentity);
  } catch {
    return false; // no such machine, or one that was never claimed
  }
}

/** Removes directories that a start left behind which was killed before there was a record of it. */
export async function removeOrphans(
  dataDir: string,
  runtimeDir: string,
  registry: VmRegistry,
): Promise<void> {
  const vms = join(dataDir, "vms");
  // In this order: a directory that is listed and not recorded afterwards had no record in between either.
  const ids = listed(vms);
  const recorded = new Set(registry.list().map(({ id }) => id));
  for (const id of ids) {
    const dir = join(vms, id);
    if (!recorded.has(id) && !isOwned(dir))
      await removeFiles({ dir, socketPath: join(runtimeDir, `${id}.sock`) });
  }
}

function listed(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // no VM was ever started
  }
}

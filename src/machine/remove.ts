// SPDX-License-Identifier: Apache-2.0
import { rm } from "node:fs/promises";

/** Deletes what a machine has on disk. The lease on its image ends with its directory. */
export async function removeFiles(machine: {
  readonly dir: string;
  readonly socketPath: string;
}): Promise<void> {
  await rm(machine.dir, { recursive: true, force: true });
  await rm(machine.socketPath, { force: true });
}

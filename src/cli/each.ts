// SPDX-License-Identifier: Apache-2.0
import type { VM } from "../vm.ts";
import { reportError } from "./report.ts";

/** Does the same to several VMs; one that fails is reported and does not keep the others from it. */
export async function forEachVm(names: readonly string[], action: (vm: VM) => Promise<void>): Promise<void> {
  const { getVm } = await import("../microvm.ts");
  await Promise.all(
    names.map(async (name) => {
      try {
        await using vm = await getVm(name);
        await action(vm);
        process.stdout.write(`${name}\n`);
      } catch (error) {
        process.exitCode = reportError(error);
      }
    }),
  );
}

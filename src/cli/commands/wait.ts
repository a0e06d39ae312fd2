// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";

export function wait(program: Command): void {
  program
    .command("wait")
    .description("Wait for VMs to end and print their exit codes")
    .argument("<vm...>", "names or ids")
    .action(async (names: string[]) => {
      const { getVm } = await import("../../microvm.ts");
      for (const name of names) {
        await using vm = await getVm(name);
        process.stdout.write(`${await vm.wait()}\n`);
      }
    });
}

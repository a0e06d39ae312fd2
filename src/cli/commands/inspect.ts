// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { printJson } from "../table.ts";

export function inspect(program: Command): void {
  program
    .command("inspect")
    .description("Print all that is known of VMs, as JSON")
    .argument("<vm...>", "names or ids")
    .action(async (names: string[]) => {
      const { getVm } = await import("../../microvm.ts");
      const infos = [];
      for (const name of names) {
        await using vm = await getVm(name);
        infos.push(await vm.inspect());
      }
      printJson(infos);
    });
}

// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { forEachVm } from "../each.ts";

export function rm(program: Command): void {
  program
    .command("rm")
    .description("Remove VMs with all they wrote")
    .argument("<vm...>", "names or ids")
    .option("-f, --force", "stop them first")
    .action((names: string[], flags: { force?: boolean }) =>
      forEachVm(names, (vm) => vm.remove({ force: flags.force ?? false })),
    );
}

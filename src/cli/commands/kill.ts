// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { forEachVm } from "../each.ts";

export function kill(program: Command): void {
  program
    .command("kill")
    .description("Send a signal to the workload of VMs; SIGKILL ends the VM")
    .argument("<vm...>", "names or ids")
    .option("-s, --signal <signal>", "name or number", "SIGKILL")
    .action((names: string[], flags: { signal: string }) => forEachVm(names, (vm) => vm.kill(flags.signal)));
}

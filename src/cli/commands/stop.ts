// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { forEachVm } from "../each.ts";
import { duration } from "../run-flags.ts";

export function stop(program: Command): void {
  program
    .command("stop")
    .description("Stop VMs: the stop signal, after a while SIGKILL, then power off")
    .argument("<vm...>", "names or ids")
    .option("-t, --timeout <time>", "patience after the stop signal; default the VM's own", duration)
    .action((names: string[], flags: { timeout?: number }) =>
      forEachVm(names, (vm) => vm.stop(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout })),
    );
}

// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { formatAge } from "../../internal/units.ts";
import type { VmInfo } from "../../vm.ts";
import { formatTable, printJson } from "../table.ts";

interface Flags {
  readonly all?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export function ps(program: Command): void {
  program
    .command("ps")
    .description("List VMs")
    .option("-a, --all", "those too that have ended")
    .option("-q, --quiet", "ids only")
    .option("--json", "as JSON")
    .action(list);
}

async function list(flags: Flags): Promise<void> {
  const { listVms } = await import("../../microvm.ts");
  const vms = (await listVms()).filter(({ state }) => flags.all || state === "running");
  if (flags.json) return printJson(vms);
  if (flags.quiet) {
    process.stdout.write(vms.map(({ id }) => `${id}\n`).join(""));
    return;
  }
  const now = Date.now();
  process.stdout.write(
    formatTable(
      ["ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS"],
      vms.map((vm) => [
        vm.id.slice(0, 12),
        vm.name,
        vm.imageReference,
        shorten(vm.command.join(" ")),
        `${formatAge(now - vm.createdAt)} ago`,
        statusOf(vm, now),
      ]),
    ),
  );
}

function statusOf(vm: VmInfo, now: number): string {
  if (vm.state === "running") return vm.startedAt ? `Up ${formatAge(now - vm.startedAt)}` : "Starting";
  if (vm.state === "unreachable") return "Unreachable (its owner does not answer)";
  if (vm.state === "lost") return "Lost (its owner was killed)";
  const ago = `${formatAge(now - (vm.finishedAt ?? now))} ago`;
  return vm.exitCode === undefined ? `Failed ${ago}` : `Exited (${vm.exitCode}) ${ago}`;
}

const shorten = (text: string): string => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

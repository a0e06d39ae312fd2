// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import type { Command } from "commander";
import { printableJson } from "../../internal/printable.ts";

interface Flags {
  readonly follow?: boolean;
  readonly json?: boolean;
}

export function logs(program: Command): void {
  program
    .command("logs")
    .description("Print what the workload of a VM wrote")
    .argument("<vm>", "name or id")
    .option("-f, --follow", "go on until the VM ends")
    .option("--json", "one JSON object for each piece of output: stream, time, text")
    .action(print);
}

async function print(name: string, flags: Flags): Promise<void> {
  const { getVm } = await import("../../microvm.ts");
  await using vm = await getVm(name);
  for await (const { stream, time, data } of vm.logs({ follow: flags.follow ?? false })) {
    if (flags.json) {
      const record = { stream, time: new Date(time).toISOString(), text: data.toString("utf8") };
      await write(process.stdout, `${printableJson(record)}\n`);
    } else await write(stream === "stderr" ? process.stderr : process.stdout, data);
  }
}

async function write(target: NodeJS.WriteStream, data: string | Uint8Array): Promise<void> {
  if (!target.write(data)) await once(target, "drain");
}

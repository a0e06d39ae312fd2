// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { reportError } from "../report.ts";

export function rmi(program: Command): void {
  program
    .command("rmi")
    .description("Remove images")
    .argument("<image...>", "references or digests")
    .option("-f, --force", "even if a VM that is not running was made from it")
    .action(async (names: string[], flags: { force?: boolean }) => {
      const { openHost } = await import("../../host.ts");
      for (const name of names) {
        try {
          openHost().images.remove(name, { force: flags.force ?? false });
          process.stdout.write(`${name}\n`);
        } catch (error) {
          process.exitCode = reportError(error);
        }
      }
    });
}

// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { packageVersion } from "../../internal/package.ts";
import { printJson } from "../table.ts";

export function version(program: Command): void {
  program
    .command("version")
    .description("Print the version")
    .option("--json", "as JSON")
    .action((flags: { json?: boolean }) => {
      const version = packageVersion();
      if (flags.json)
        return printJson({ version, node: process.version, platform: `${process.platform}/${process.arch}` });
      process.stdout.write(
        `ts-microvm ${version} (node ${process.version}, ${process.platform}/${process.arch})\n`,
      );
    });
}

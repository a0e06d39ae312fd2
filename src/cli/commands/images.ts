// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { formatAge, formatBytes } from "../../internal/units.ts";
import { formatTable, printJson } from "../table.ts";

export function images(program: Command): void {
  program
    .command("images")
    .description("List images")
    .option("-q, --quiet", "digests only")
    .option("--json", "as JSON")
    .action(async (flags: { quiet?: boolean; json?: boolean }) => {
      const { openHost } = await import("../../host.ts");
      const list = openHost().images.list();
      if (flags.json) return printJson(list);
      if (flags.quiet) return void process.stdout.write(list.map(({ id }) => `${id}\n`).join(""));
      const rows = list.flatMap((image) =>
        (image.references.length > 0 ? image.references : ["<none>"]).map((reference) => [
          reference,
          image.id.replace("sha256:", "").slice(0, 12),
          image.platform,
          `${formatAge(Date.now() - image.createdAt)} ago`,
          formatBytes(image.sizeBytes),
        ]),
      );
      process.stdout.write(formatTable(["REFERENCE", "IMAGE ID", "PLATFORM", "PULLED", "SIZE"], rows));
    });
}

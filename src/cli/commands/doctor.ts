// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { formatTable, printJson } from "../table.ts";

export function doctor(program: Command): void {
  program
    .command("doctor")
    .description("Check what this machine has and lacks")
    .option("--json", "as JSON")
    .action(async (flags: { json?: boolean }) => {
      const [{ checkHost }, { userDirs }] = await Promise.all([
        import("../../preflight/index.ts"),
        import("../../internal/dirs.ts"),
      ]);
      const results = await checkHost(userDirs());
      if (results.some(({ ok, required }) => required && !ok)) process.exitCode = 1;
      if (flags.json) return printJson(results);
      process.stdout.write(
        formatTable(
          ["", "CHECK", "FOUND"],
          results.map(({ ok, required, name, detail }) => [
            ok ? "ok" : required ? "FAIL" : "warn",
            name,
            detail,
          ]),
        ),
      );
      for (const { ok, name, hint } of results) if (!ok && hint) process.stdout.write(`\n${name}: ${hint}\n`);
    });
}

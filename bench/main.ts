// SPDX-License-Identifier: Apache-2.0
import { readdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { createReport, type Report } from "./report.ts";

/** A benchmark is a file here that exports this as `run`. */
type Benchmark = (report: Report) => Promise<void>;

const NOT_BENCHMARKS = new Set(["main", "report"]);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false } },
});
const known = readdirSync(import.meta.dirname, { withFileTypes: true })
  .flatMap((file) => (file.isFile() && file.name.endsWith(".ts") ? file.name.slice(0, -3) : []))
  .filter((name) => !NOT_BENCHMARKS.has(name));
const unknown = positionals.filter((name) => !known.includes(name));
if (positionals.length === 0 || unknown.length > 0) {
  process.stderr.write(`usage: npm run bench -- NAME… [--json]\nbenchmarks: ${known.join(", ")}\n`);
  process.exit(2);
}

const report = createReport(values.json);
for (const name of positionals) {
  const { run } = (await import(`./${name}.ts`)) as { run: Benchmark };
  await run(report);
}
report.end();
